//! The operator's endpoints, for any service: the scrape, the health checks, the statements and the live page. They know
//! the registry and the probes that they are given, and nothing of the service's own routes.
//!
//! Each is wrapped by actix-web-prom under the namespace `ops`, into the same registry: `ops_http_requests_total` and
//! `ops_http_requests_duration_seconds` tell who watches the scrape. The page's stream is not: it would be a request of
//! minutes among those of milliseconds.

mod dashboard;
mod health;
mod scrape;
pub(crate) mod statements;

use std::{io, sync::Arc};

use actix_web::{Resource, Route, middleware::from_fn, web};
use actix_web_prom::{PrometheusMetrics, PrometheusMetricsBuilder};

use crate::{
    registry::Registry,
    vitals::{
        attendance::Attendance,
        database::{Database, Statements},
        http::{NotableRequests, Recorder},
        methods::other_methods,
        runtime::Runtime,
    },
};
pub use dashboard::DashboardSettings;
use dashboard::{Dashboard, Details, Own, Sources};
pub use health::{Health, ProbeError};
pub use scrape::ScrapeSettings;
use scrape::Scraper;

/// Latency buckets of the ops endpoints, in seconds: a scrape takes from a fraction of a millisecond to its timeout.
const OPS_BUCKETS: [f64; 10] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0,
];

/// Whether an endpoint is one of these, or of the pages about the API: its requests are the operator's, not the
/// service's.
pub(crate) fn is_ops(endpoint: &str) -> bool {
    Ops::serves(endpoint) || matches!(first_segment(endpoint), "docs" | "openapi.json")
}

/// What stands between the first two slashes of a path, or behind the only one.
fn first_segment(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

/// What the live page shows: the families of the recorders, and the requests that are worth a look.
#[derive(Clone, Debug)]
pub struct Watched {
    sources: Sources,
    requests: NotableRequests,
}

impl Watched {
    /// What these recorders record.
    pub(crate) fn new(http: &Recorder, database: &Database, runtime: &Runtime) -> Self {
        let (requests, queries) = (http.families(), database.families());
        Self {
            sources: Sources {
                requests: Some(requests.requests.clone()),
                durations: Some(requests.duration.clone()),
                route_queries: Some(requests.database_queries.clone()),
                route_database: Some(requests.database_seconds.clone()),
                n_plus_one: Some(requests.n_plus_one.clone()),
                in_progress: Some(requests.in_progress.clone()),
                queries: Some(queries.queries.clone()),
                query_durations: Some(queries.query_seconds.clone()),
                waiters: Some(queries.pool_waiters.clone()),
                pools: Some(database.levels().clone()),
                lag: Some(runtime.lag_seconds().clone()),
            },
            requests: http.notable().clone(),
        }
    }
}

/// The ops endpoints: `GET /metrics`, `/livez`, `/readyz` and `/health`; `GET /ops/statements` and
/// `POST /ops/statements/reset`, where there are [statements](Self::with_statements) to tell of; and `/dashboard`, where
/// [it](Self::with_dashboard) is wanted.
///
/// Make one for the whole process (the limits on scrapes are shared), clone it into each worker's application, and
/// mount it with `App::configure(|config| ops.configure(config))`.
#[derive(Clone)]
pub struct Ops {
    scraper: Arc<Scraper>,
    health: Health,
    statements: Option<Statements>,
    watcher: PrometheusMetrics,
    attendance: Attendance,
    dashboard: Option<Dashboard>,
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
            statements: None,
            watcher,
            attendance: Attendance::default(),
            dashboard: None,
        })
    }

    /// Tells of these statements, and lets them be reset.
    #[must_use]
    pub fn with_statements(mut self, statements: &Statements) -> Self {
        self.statements = Some(statements.clone());
        self
    }

    /// Serves the live page too, and starts to sample the registry for it, on a thread of its own. The page shows what
    /// is `watched`, and the statements that were given before.
    ///
    /// # Errors
    ///
    /// Fails if no thread can be started.
    pub fn with_dashboard(
        mut self,
        settings: DashboardSettings,
        watched: Watched,
    ) -> io::Result<Self> {
        let Watched { sources, requests } = watched;
        let details = Details::new(self.statements.clone(), requests);
        let registry = self.scraper.registry();
        let own = Own {
            is_own: is_ops,
            in_progress: self.attendance.clone(),
        };
        let dashboard = Dashboard::start(registry, sources, settings, own, details)?;
        self.dashboard = Some(dashboard);
        Ok(self)
    }

    /// From now on `/readyz` answers 503, and the streams of open pages end: the server is about to stop.
    pub fn drain(&self) {
        self.health.drain();
        if let Some(dashboard) = &self.dashboard {
            dashboard.close();
        }
    }

    /// Whether a path is one of these endpoints, or stands below one: whatever is mounted, and nothing else, is there.
    ///
    /// For a service that mounts them among its own routes, in a scope with a middleware of their own.
    pub fn serves(path: &str) -> bool {
        matches!(
            first_segment(path),
            "metrics" | "livez" | "readyz" | "health" | "ops" | "dashboard"
        )
    }

    /// Mounts the endpoints.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        config
            .app_data(web::Data::from(Arc::clone(&self.scraper)))
            .app_data(web::Data::new(self.health.clone()))
            .service(self.get("/metrics", scrape::get_metrics))
            .service(self.get("/livez", health::get_livez))
            .service(self.get("/readyz", health::get_readyz))
            .service(self.get("/health", health::get_health));
        if let Some(table) = &self.statements {
            let reset = self.watched(web::post().to(statements::reset_statements));
            config
                .app_data(web::Data::new(table.clone()))
                .service(self.get("/ops/statements", statements::get_statements))
                .service(
                    web::resource("/ops/statements/reset")
                        .route(reset)
                        .default_service(other_methods("POST, OPTIONS")),
                );
        }
        if let Some(dashboard) = &self.dashboard {
            config
                .app_data(web::Data::new(dashboard.clone()))
                .service(self.get("/dashboard", dashboard::get_page))
                .service(self.get("/dashboard/history", dashboard::get_history))
                .service(self.stream("/dashboard/stream"))
                .service(self.get("/dashboard/{part}", dashboard::get_asset));
        }
    }

    /// A resource that answers GET and HEAD, and 405 with `Allow` to all else.
    ///
    /// Only its own methods are watched: actix-web-prom would make a series of every method that a client invents.
    fn get<F, Args>(&self, path: &str, handler: F) -> Resource
    where
        F: actix_web::Handler<Args> + Clone,
        Args: actix_web::FromRequest + 'static,
        F::Output: actix_web::Responder + 'static,
    {
        web::resource(path)
            .route(self.watched(web::get().to(handler.clone())))
            .route(self.watched(web::head().to(handler)))
            .default_service(other_methods("GET, HEAD, OPTIONS"))
    }

    /// The page's stream, for GET only: it has no head to tell but its content type.
    fn stream(&self, path: &str) -> Resource {
        web::resource(path)
            .route(self.attended(web::get().to(dashboard::get_stream)))
            .default_service(other_methods("GET, OPTIONS"))
    }

    fn watched(&self, route: Route) -> Route {
        self.attended(route.wrap(self.watcher.clone()))
    }

    fn attended(&self, route: Route) -> Route {
        let attendance = self.attendance.clone();
        route.wrap(from_fn(move |request, next| {
            attendance.clone().attend(request, next)
        }))
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
