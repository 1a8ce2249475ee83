//! A receiver of Alertmanager's webhooks, in the test's own process.
//!
//! <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>

use std::net::TcpListener;
use std::sync::{Arc, Mutex, mpsc};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::Value;

/// What was received, each with the path that it was sent to.
type Received = Arc<Mutex<Vec<(String, Value)>>>;

/// A running receiver; it ends with its test.
#[derive(Debug)]
pub(crate) struct Receiver {
    authority: String,
    received: Received,
    server: ServerHandle,
}

impl Receiver {
    /// Starts it on a port of its own.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let authority = listener.local_addr().expect("a bound address").to_string();
        let received = Received::default();
        let data = web::Data::from(Arc::clone(&received));
        let (sender, started) = mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    App::new()
                        .app_data(data.clone())
                        .route("/{receiver}", web::post().to(receive))
                })
                .workers(1)
                .disable_signals()
                .listen(listener)
                .expect("a listener")
                .run();
                sender.send(server.handle()).expect("the test waits");
                server.await.expect("a clean stop");
            });
        });
        Self {
            authority,
            received,
            server: started.recv().expect("a started server"),
        }
    }

    /// The address of one receiver among others.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.authority)
    }

    /// All alerts until now, each with the name of the receiver that was told.
    pub(crate) fn alerts(&self) -> Vec<(String, Value)> {
        let received = self.received.lock().expect("no handler panicked");
        received
            .iter()
            .flat_map(|(name, message)| {
                let alerts = message["alerts"].as_array().expect("alerts");
                alerts.iter().map(|alert| (name.clone(), alert.clone()))
            })
            .collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // The stop is on its way when the call returns; nobody needs to wait for it.
        drop(self.server.stop(false));
    }
}

async fn receive(
    name: web::Path<String>,
    message: web::Json<Value>,
    received: web::Data<Mutex<Vec<(String, Value)>>>,
) -> HttpResponse {
    let mut received = received.lock().expect("no handler panicked");
    received.push((name.into_inner(), message.into_inner()));
    HttpResponse::Ok().finish()
}
