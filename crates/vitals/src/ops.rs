//! The ops endpoints.
//!
//! [`OpsSettings`] chooses which exist besides the scrape and the health checks. [`serves`] is for a service that has them on
//! the listener of its clients.

/// ```
/// use actix_vitals::ops::{ENDPOINTS, OpsChoice};
///
/// // The endpoints that every service has.
/// let always = ENDPOINTS.iter().filter(|endpoint| endpoint.choice() == OpsChoice::Always);
/// let paths: Vec<_> = always.map(|endpoint| endpoint.path()).collect();
/// assert_eq!(paths, ["/metrics", "/livez", "/readyz", "/health"]);
/// ```
pub use vitals_console::{ENDPOINTS, OpsChoice, OpsEndpoint, OpsMethods};

/// ```
/// use actix_vitals::ops::{LogControl, OpsSettings};
///
/// // With tracing-subscriber, `replace` is `|filter| handle.reload(EnvFilter::new(filter))`.
/// let log = LogControl::new("info", |filter| {
///     println!("the filter is now {filter}");
///     Ok(())
/// });
/// let settings = OpsSettings::new().with_log(log);
/// ```
pub use vitals_console::LogControl;

/// ```
/// use actix_vitals::{Vitals, ops::ProbeError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// vitals.check_health(async || Err(ProbeError("the warehouse does not answer".to_owned())));
/// # Ok(())
/// # }
/// ```
pub use vitals_console::ProbeError;

/// ```
/// use actix_vitals::{Vitals, ops};
/// use actix_web::{App, guard, middleware::DefaultHeaders, web};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let operators = web::scope("")
///     .guard(guard::fn_guard(|request| ops::serves(request.head().uri.path())))
///     // In place of a check of credentials.
///     .wrap(DefaultHeaders::new().add(("x-robots-tag", "none")))
///     .configure(vitals.ops());
/// let app = App::new().service(operators);
/// # Ok(())
/// # }
/// ```
pub use vitals_console::serves;

/// ```
/// use actix_vitals::{database::Order, ops::statements};
///
/// let (_, order, limit) = statements::parameters("sort=p95&limit=5").unwrap();
/// assert_eq!((order, limit), (Order::P95, 5));
/// assert!(statements::parameters("limit=0").is_err());
/// ```
pub use vitals_console::statements;

/// ```no_run
/// use actix_vitals::{Vitals, ops::OpsSettings};
/// use actix_web::{App, HttpServer, rt, web};
///
/// # #[actix_web::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().ops(OpsSettings::everything()).build()?;
/// let monitor = vitals.http();
/// let service = HttpServer::new(move || {
///     App::new()
///         .route("/hello", web::get().to(async || "hello"))
///         .wrap(monitor.clone())
/// });
/// let operations = HttpServer::new(move || App::new().configure(vitals.ops())).workers(1);
/// rt::spawn(operations.bind("127.0.0.1:9100")?.run());
/// service.bind("0.0.0.0:8080")?.run().await?;
/// # Ok(())
/// # }
/// ```
pub use vitals_console::OpsSettings;
