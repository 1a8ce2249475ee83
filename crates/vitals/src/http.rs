//! Requests and connections.
//!
//! [`Monitor`] is the middleware that records requests. Those that were slow, failed or are suspicious are kept with their
//! timelines, and grouped by their causes. [`ConnectionMetrics`] counts the connections of a server with an accept loop of its
//! own.

pub use vitals_recorder::http::{
    MonitorFuture, MonitorService, MonitoredBody, OTHER_METHOD, UNMATCHED, block,
};

/// ```
/// use actix_vitals::Vitals;
/// use actix_web::{App, HttpResponse, test::{TestRequest, call_service, init_service}, web};
///
/// # #[actix_web::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let app = App::new()
///     .route("/orders/{id}", web::get().to(HttpResponse::Ok))
///     // Last: outermost, so that it sees what every other middleware answers.
///     .wrap(vitals.http());
/// let app = init_service(app).await;
/// drop(call_service(&app, TestRequest::with_uri("/orders/7").to_request()).await);
/// let labels = [("endpoint", "/orders/{id}"), ("http_status", "200")];
/// assert_eq!(vitals.value("http_requests_total", &labels), Some(1.0));
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::http::Monitor;

/// ```
/// use actix_vitals::{Vitals, http::ConnectionOutcome};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // In a server with an accept loop of its own.
/// let vitals = Vitals::builder().build()?;
/// let connection = vitals.connections().open();
/// assert_eq!(vitals.value("http_connections_active", &[]), Some(1.0));
/// connection.end(ConnectionOutcome::Idle);
/// vitals.connections().refused(ConnectionOutcome::RefusedTotal);
/// let idle = [("outcome", "idle")];
/// assert_eq!(vitals.value("http_connections_total", &idle), Some(1.0));
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::http::{ConnectionMetrics, ConnectionOutcome, OpenConnection};

/// ```
/// use actix_vitals::Vitals;
/// use actix_web::{App, HttpResponse, test::{TestRequest, call_service, init_service}, web};
///
/// # #[actix_web::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let app = App::new()
///     .route("/orders", web::get().to(HttpResponse::InternalServerError))
///     .wrap(vitals.http());
/// let app = init_service(app).await;
/// drop(call_service(&app, TestRequest::with_uri("/orders").to_request()).await);
/// let failed = vitals.notable_requests().failed();
/// assert_eq!((&*failed[0].endpoint, failed[0].status), ("/orders", 500));
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::http::{NotableRequest, NotableRequests};

/// ```
/// use actix_vitals::{Vitals, http::{KeepReason, KeptFilter, PhaseKind}};
/// use actix_web::{App, HttpResponse, test::{TestRequest, call_and_read_body, init_service}, web};
///
/// # #[actix_web::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let app = App::new()
///     .route("/orders", web::get().to(HttpResponse::InternalServerError))
///     .wrap(vitals.http());
/// let app = init_service(app).await;
/// call_and_read_body(&app, TestRequest::with_uri("/orders").to_request()).await;
/// let failed = KeptFilter { reason: Some(KeepReason::Failed), ..KeptFilter::default() };
/// let kept = vitals.kept_requests().list(&failed);
/// assert_eq!((&*kept[0].endpoint, kept[0].status), ("/orders", 500));
/// assert!(kept[0].explain().time(PhaseKind::EventLoop) <= kept[0].duration);
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::http::{
    Comparison, Explanation, KEPT_REQUESTS, KeepReason, KeptEnding, KeptFilter, KeptId,
    KeptRequest, KeptRequests, LeftOutPhases, MOST_KEPT_REQUESTS, NotAnId, Phase, PhaseKind,
};

/// ```
/// use actix_vitals::{Vitals, http::FailureKind};
/// use actix_web::{App, HttpResponse, test::{TestRequest, call_and_read_body, init_service}, web};
///
/// # #[actix_web::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let app = App::new()
///     .route("/orders", web::get().to(HttpResponse::InternalServerError))
///     .wrap(vitals.http());
/// let app = init_service(app).await;
/// call_and_read_body(&app, TestRequest::with_uri("/orders").to_request()).await;
/// let failures = vitals.failures().list();
/// assert_eq!((failures[0].cause.kind, failures[0].count), (FailureKind::Answer, 1));
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::http::{FailureCause, FailureGroup, FailureGroups, FailureKind};

/// ```
/// use actix_vitals::http::Stream;
/// use actix_web::HttpResponse;
/// use futures_util::stream;
///
/// async fn follow() -> HttpResponse {
///     let lines = stream::pending::<Result<actix_web::web::Bytes, actix_web::Error>>();
///     let mut response = HttpResponse::Ok().content_type("text/plain").streaming(lines);
///     response.extensions_mut().insert(Stream);
///     response
/// }
/// ```
pub use vitals_recorder::http::Stream;

/// ```
/// use actix_vitals::http::TraceParent;
///
/// let header = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// assert!(TraceParent::parse(header).is_some_and(|parent| parent.sampled));
/// assert_eq!(TraceParent::parse(b"not a traceparent"), None);
/// ```
pub use vitals_recorder::http::TraceParent;
