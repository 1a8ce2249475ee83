//! Receives Alertmanager's webhooks in the process of the test.
//!
//! <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>

use std::net::TcpListener;
use std::sync::{Arc, Mutex, mpsc};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::Value;

/// The received messages, each with its path.
type Received = Arc<Mutex<Vec<(String, Value)>>>;

/// A running receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    authority: String,
    received: Received,
    server: ServerHandle,
}

impl Receiver {
    /// Starts a receiver on a free port.
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

    /// The URL of one receiver in the configuration.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.authority)
    }

    /// All alerts so far, each with the name of its receiver.
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
        // The server stops by itself after this call.
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
