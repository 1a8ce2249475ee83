//! The operator's endpoints, for any service: the scrape and the health checks. They know the registry and the
//! probes that they are given, and nothing of the service's own routes.
//!
//! Each is wrapped by actix-web-prom under the namespace `ops`, into the same registry: `ops_http_requests_total` and
//! `ops_http_requests_duration_seconds` tell who watches the scrape.

mod health;
mod scrape;

use std::sync::Arc;

use actix_web::{Resource, web};
use actix_web_prom::{PrometheusMetrics, PrometheusMetricsBuilder};

use crate::{registry::Registry, vitals::methods::other_methods};
pub use health::{Health, ProbeError};
pub use scrape::ScrapeSettings;
use scrape::Scraper;

/// Latency buckets of the ops endpoints, in seconds: a scrape takes from a fraction of a millisecond to its timeout.
const OPS_BUCKETS: [f64; 10] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0,
];

/// The ops endpoints: `GET /metrics`, `/livez`, `/readyz` and `/health`.
///
/// Make one for the whole process (the limits on scrapes are shared), clone it into each worker's application, and
/// mount it with `App::configure(|config| ops.configure(config))`.
#[derive(Clone)]
pub struct Ops {
    scraper: Arc<Scraper>,
    health: Health,
    watcher: PrometheusMetrics,
}

impl Ops {
    /// Sets up the ops endpoints over a registry.
    ///
    /// # Errors
    ///
    /// Fails if the registry has families named `ops_http_requests_*` already: one `Ops` for each registry.
    pub fn new(
        registry: &Registry,
        health: Health,
        scrape: ScrapeSettings,
    ) -> Result<Self, OpsError> {
        let watcher = PrometheusMetricsBuilder::new("ops")
            .registry(registry.prometheus().clone())
            .buckets(&OPS_BUCKETS)
            .build()
            .map_err(|error| OpsError(error.to_string()))?;
        Ok(Self {
            scraper: Arc::new(Scraper::new(registry.clone(), scrape)),
            health,
            watcher,
        })
    }

    /// Mounts the endpoints.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        config
            .app_data(web::Data::from(Arc::clone(&self.scraper)))
            .app_data(web::Data::new(self.health.clone()))
            .service(get("/metrics", scrape::get_metrics).wrap(self.watcher.clone()))
            .service(get("/livez", health::get_livez).wrap(self.watcher.clone()))
            .service(get("/readyz", health::get_readyz).wrap(self.watcher.clone()))
            .service(get("/health", health::get_health).wrap(self.watcher.clone()));
    }
}

impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ops").finish_non_exhaustive()
    }
}

/// The ops endpoints could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the ops endpoints: {0}")]
pub struct OpsError(String);

/// A resource that answers GET and HEAD, and 405 with `Allow` to all else.
fn get<F, Args>(path: &str, handler: F) -> Resource
where
    F: actix_web::Handler<Args> + Clone,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler.clone()))
        .route(web::head().to(handler))
        .default_service(other_methods("GET, HEAD, OPTIONS"))
}
