//! A monitored application on a real listener, with a route for every way that a request can end, and with an independent
//! count of parsed request heads.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use actix_vitals::{Vitals, http::Stream};
use actix_web::{
    App, HttpResponse, HttpServer,
    body::{BodySize, BodyStream, MessageBody, SizedStream},
    dev::{ServerHandle, Service, ServiceRequest, ServiceResponse},
    error, guard, web,
};
use futures_util::{StreamExt, stream};

/// The application, served by two workers on another thread until it is dropped.
pub(crate) struct TestApp {
    pub(crate) address: SocketAddr,
    pub(crate) vitals: Vitals,
    /// Request heads that were parsed, counted outside of the middleware under test.
    pub(crate) heads: Arc<AtomicU64>,
    server: ServerHandle,
    thread: Option<thread::JoinHandle<()>>,
}

impl TestApp {
    pub(crate) fn start(vitals: Vitals) -> Self {
        Self::start_with(vitals, false)
    }

    /// Starts it with Actix' default: a client may close its half of the connection and still get its answer.
    pub(crate) fn start_with_half_closed(vitals: Vitals) -> Self {
        Self::start_with(vitals, true)
    }

    fn start_with(vitals: Vitals, allows_half_closed: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let heads = Arc::new(AtomicU64::new(0));
        let (sender, receiver) = mpsc::channel();
        let thread = {
            let (vitals, heads) = (vitals.clone(), Arc::clone(&heads));
            thread::spawn(move || serve(listener, allows_half_closed, &vitals, &heads, &sender))
        };
        let server = receiver.recv().expect("a started server");
        Self {
            address,
            vitals,
            heads,
            server,
            thread: Some(thread),
        }
    }

    /// Stops the server gracefully.
    pub(crate) fn drain(&self) {
        drop(self.server.stop(true));
    }

    pub(crate) fn heads(&self) -> u64 {
        self.heads.load(Ordering::SeqCst)
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        drop(self.server.stop(false));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server's thread");
        }
    }
}

fn serve(
    listener: TcpListener,
    allows_half_closed: bool,
    vitals: &Vitals,
    heads: &Arc<AtomicU64>,
    started: &mpsc::Sender<ServerHandle>,
) {
    let (vitals, heads) = (vitals.clone(), Arc::clone(heads));
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            let heads = Arc::clone(&heads);
            App::new()
                .configure(routes)
                .wrap(vitals.http())
                .wrap_fn(move |request, service| {
                    heads.fetch_add(1, Ordering::SeqCst);
                    service.call(request)
                })
        })
        .workers(2)
        .h1_allow_half_closed(allows_half_closed)
        .shutdown_timeout(1)
        .disable_signals()
        .listen_auto_h2c(listener)
        .expect("a listener")
        .run();
        started.send(server.handle()).expect("the test waits");
        server.await.expect("a clean stop");
    });
}

/// A route for each way that a request can end.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource("/ok").route(
                web::route()
                    .guard(guard::Any(guard::Get()).or(guard::Head()))
                    .to(ok),
            ),
        )
        .route(
            "/items/{id}",
            web::get().to(async |id: web::Path<u32>| HttpResponse::Ok().body(format!("item {id}"))),
        )
        .route(
            "/echo",
            web::post().to(async |body: web::Bytes| HttpResponse::Created().body(body)),
        )
        .route(
            "/empty",
            web::delete().to(async || HttpResponse::NoContent()),
        )
        .route(
            "/error",
            web::get().to(async || Err::<String, _>(error::ErrorConflict("no"))),
        )
        .route(
            "/panic",
            web::get().to(async || -> HttpResponse { panic!("the handler panics as it should") }),
        )
        .route(
            "/panic-in-body",
            web::get().to(async || HttpResponse::Ok().body(PanickingBody)),
        )
        .route("/slow", web::get().to(slow))
        .route("/large", web::get().to(large))
        .route("/upgrade", web::get().to(upgrade))
        .route("/pause", web::get().to(pause))
        .route(
            "/endless",
            web::get().to(async || HttpResponse::Ok().streaming(endless())),
        )
        .route(
            "/broken",
            web::get().to(async || HttpResponse::Ok().streaming(broken())),
        )
        .route(
            "/short",
            web::get().to(async || HttpResponse::Ok().body(SizedStream::new(100, half()))),
        )
        .route(
            "/stream",
            web::to(async || HttpResponse::Ok().streaming(endless())),
        )
        .route(
            "/loud",
            web::get().to(async || {
                HttpResponse::Ok()
                    .content_type("Text/Event-Stream; charset=UTF-8")
                    .body(BodyStream::new(one_event()))
            }),
        )
        .route("/events", web::get().to(events))
        .route("/marked", web::get().to(marked))
        .service(
            web::scope("/guarded")
                .wrap_fn(|_: ServiceRequest, _| async {
                    Err::<ServiceResponse, _>(error::ErrorForbidden("not you"))
                })
                .route("/door", web::get().to(ok)),
        )
        .service(
            web::scope("/users/{user}")
                .service(web::scope("/posts").route("/{post}", web::get().to(ok)))
                .default_service(web::to(async || {
                    HttpResponse::Ok().body("the users' default")
                })),
        );
}

async fn ok() -> HttpResponse {
    HttpResponse::Ok().body("hello")
}

/// Answers later than any test waits.
async fn slow() -> HttpResponse {
    actix_web::rt::time::sleep(Duration::from_secs(600)).await;
    HttpResponse::Ok().finish()
}

/// Thirty-two megabytes in one chunk.
async fn large() -> HttpResponse {
    HttpResponse::Ok().body(vec![b'.'; 32 << 20])
}

fn endless() -> impl futures_util::Stream<Item = Result<web::Bytes, Infallible>> {
    stream::repeat(web::Bytes::from_static(&[b'.'; 16 * 1024])).map(Ok)
}

/// Half of the announced hundred bytes.
fn half() -> impl futures_util::Stream<Item = Result<web::Bytes, Infallible>> {
    stream::iter([Ok(web::Bytes::from_static(&[b'.'; 50]))])
}

fn broken() -> impl futures_util::Stream<Item = Result<web::Bytes, error::Error>> {
    stream::iter([
        Ok(web::Bytes::from_static(b"half an answer")),
        Err(error::ErrorInternalServerError("the source dried up")),
    ])
}

/// One event, then silence.
fn one_event() -> impl futures_util::Stream<Item = Result<web::Bytes, Infallible>> {
    stream::once(async { Ok(web::Bytes::from_static(b"data: 1\n\n")) }).chain(stream::pending())
}

async fn events() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .body(BodyStream::new(one_event()))
}

/// Switches protocols, sends one message in the new one, and stays open.
async fn upgrade() -> HttpResponse {
    HttpResponse::SwitchingProtocols()
        .upgrade("websocket")
        .streaming(one_event())
}

/// Answers after a pause.
async fn pause() -> HttpResponse {
    actix_web::rt::time::sleep(Duration::from_millis(400)).await;
    HttpResponse::Ok().body("at last")
}

async fn marked() -> HttpResponse {
    let mut response = HttpResponse::Ok().body(BodyStream::new(one_event()));
    response.extensions_mut().insert(Stream);
    response
}

/// A body whose stream panics.
struct PanickingBody;

impl MessageBody for PanickingBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<web::Bytes, Self::Error>>> {
        panic!("the body panics as it should")
    }
}
