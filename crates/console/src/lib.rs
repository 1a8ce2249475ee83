//! The operator's endpoints, for any service: the scrape, the health checks, the statements and the live page. They know
//! the registry and the probes that they are given, and nothing of the service's own routes.

mod attendance;
mod dashboard;
mod fair_places;
mod gatherings;
mod health;
mod scrape;
pub mod statements;

use std::sync::OnceLock;
use std::{sync::Arc, time::Duration};

use actix_web::{
    Resource, Route,
    dev::{HttpServiceFactory, Service},
    web,
};
use actix_web::{dev::ServiceRequest, middleware::from_fn};

use crate::attendance::Attendance;
use dashboard::{Dashboard, DashboardSettings, Details, Own, Sources};
use gatherings::Gatherings;
pub use health::ProbeError;
use health::{Finding, Health};
use scrape::{ScrapeSettings, Scraper};
use vitals_recorder::database::Database;
use vitals_recorder::{
    http::RequestRecorder, memory::AnswerMemory, methods::other_methods,
    ops_endpoints::OpsEndpoints, runtime::Runtime,
};
use vitals_registry::Registry;

/// Whether a path is one of these endpoints, or stands below one: whatever is mounted, and nothing else, is there.
///
/// For a service that mounts them among its own routes, in a scope with a middleware of their own.
pub fn serves(path: &str) -> bool {
    matches!(
        first_segment(path),
        "metrics" | "livez" | "readyz" | "health" | "ops" | "dashboard"
    )
}

/// What stands between the first two slashes of a path, or behind the only one.
fn first_segment(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

/// Which ops endpoints there are, and how they are served.
///
/// `/metrics`, `/livez`, `/readyz` and `/health` are always there. The others show more of the service than its numbers,
/// or change something, so each is a choice: [`with_statements`](Self::with_statements),
/// [`with_reset`](Self::with_reset), [`with_dashboard`](Self::with_dashboard), or all of them by
/// [`everything`](Self::everything). Mount them where operators alone can reach them, on a second listener for example.
#[derive(Clone, Debug, Default)]
pub struct OpsSettings {
    scrape: ScrapeSettings,
    statements: bool,
    reset: bool,
    dashboard: bool,
    page: DashboardSettings,
}

impl OpsSettings {
    /// The scrape and the health checks, with the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// All endpoints that the features have, with the default limits.
    pub fn everything() -> Self {
        Self::new().with_reset().with_dashboard()
    }

    /// Adds `GET /ops/statements`, and the statements on the live page: shapes, which name tables and columns.
    #[must_use]
    pub fn with_statements(mut self) -> Self {
        self.statements = true;
        self
    }

    /// Adds `POST /ops/statements/reset`, which forgets all statements, and `GET /ops/statements` with it.
    #[must_use]
    pub fn with_reset(mut self) -> Self {
        self.reset = true;
        self.with_statements()
    }

    /// Adds `/dashboard`: the live page, its assets and its stream.
    #[must_use]
    pub fn with_dashboard(mut self) -> Self {
        self.dashboard = true;
        self
    }

    /// Most scrapes of one client that wait at once, and half of what all clients may have together; more are answered 503
    /// with `Retry-After`. Scrapes that coincide share the work of one. Default 64.
    #[must_use]
    pub fn scrapes_waiting(mut self, most: usize) -> Self {
        self.scrape.max_waiting = most;
        self
    }

    /// How long a scrape waits for its answer, where the client does not say how long it waits; past that the answer
    /// is 503. Prometheus says so (`X-Prometheus-Scrape-Timeout-Seconds`) and gets its answer within its own time.
    /// Default 10 seconds.
    ///
    /// Collectors together have half of this time: the exposition leaves out the rows of one that does not return.
    #[must_use]
    pub fn scrape_timeout(mut self, timeout: Duration) -> Self {
        self.scrape.timeout = timeout;
        self
    }

    /// How the live page calls the service. By default the name of the program, without a version.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.page.name = name.into();
        self.page.version = version.into();
        self
    }

    /// Where the service describes its API, for the live page to link to: absolute, or relative to the page. By default
    /// nowhere.
    #[must_use]
    pub fn documentation(mut self, url: impl Into<String>) -> Self {
        self.page.documentation = Some(url.into());
        self
    }
}

/// The recorders that the endpoints tell of.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Of requests.
    pub http: Arc<RequestRecorder>,
    /// The paths at which the endpoints turn out to be mounted.
    pub endpoints: OpsEndpoints,
    /// Of queries and pools.
    pub database: Option<Database>,
    /// Of event loops.
    pub runtime: Runtime,
    /// Of bodies that wait for their clients.
    pub memory: AnswerMemory,
}

impl Watched {
    /// What the live page samples.
    fn sources(&self) -> Sources {
        let requests = self.http.families();
        let database_use = requests.database.as_ref();
        let queries = self.database.as_ref().map(Database::families);
        Sources {
            requests: Some(requests.requests.clone()),
            durations: Some(requests.duration.clone()),
            route_queries: database_use.map(|database| database.queries.clone()),
            route_database: database_use.map(|database| database.seconds.clone()),
            n_plus_one: requests.n_plus_one.clone(),
            in_progress: Some(requests.in_progress.clone()),
            lag: Some(self.runtime.lag_seconds().clone()),
            queries: queries.map(|families| families.queries.clone()),
            query_durations: queries.map(|families| families.query_seconds.clone()),
            waiters: queries.map(|families| families.pool_waiters.clone()),
            pools: (self.database.as_ref()).map(|database| database.levels().clone()),
        }
    }
}

/// The operator's endpoints, and the state behind them, which all applications of a process share. Cheap to clone; a clone
/// is the same.
#[derive(Clone)]
pub struct Ops {
    shared: Arc<Shared>,
}

struct Shared {
    settings: OpsSettings,
    scraper: Arc<Scraper>,
    health: Health,
    watched: Watched,
    gatherings: Gatherings,
    attendance: Attendance,
    /// Started when the endpoints are first mounted; none where no thread could be.
    dashboard: OnceLock<Option<Dashboard>>,
}

impl Ops {
    /// Sets up the endpoints over a registry.
    pub fn new(registry: &Registry, settings: OpsSettings, watched: Watched) -> Self {
        let levels = watched
            .database
            .as_ref()
            .map(|database| database.levels().clone());
        let health = Health::new(move || {
            let levels = levels.clone();
            async move {
                let answer = match levels {
                    Some(levels) => levels.ping().await,
                    None => None,
                };
                match answer {
                    None => Finding::Nothing,
                    Some(Ok(())) => Finding::Reachable,
                    Some(Err(error)) => Finding::Unreachable(ProbeError(error.to_string())),
                }
            }
        });
        Self {
            shared: Arc::new(Shared {
                scraper: Arc::new(Scraper::new(
                    registry.clone(),
                    settings.scrape,
                    watched.memory.clone(),
                )),
                gatherings: Gatherings::new(watched.memory.clone()),
                settings,
                health,
                watched,
                attendance: Attendance::default(),
                dashboard: OnceLock::new(),
            }),
        }
    }

    /// Starts what works in the background, once: before the endpoints are mounted.
    pub fn start(&self) {
        if self.shared.settings.dashboard {
            self.shared
                .dashboard
                .get_or_init(|| self.shared.start_dashboard());
        }
    }

    /// Has `probe` say whether what the service depends on is there.
    pub fn check_health<F, Fut>(&self, probe: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ProbeError>> + 'static,
    {
        self.shared.health.check(probe);
    }

    /// From now on `/readyz` answers 503, and the streams of open pages end: the server is about to stop.
    pub fn drain(&self) {
        self.shared.health.drain();
        if let Some(Some(dashboard)) = self.shared.dashboard.get() {
            dashboard.close();
        }
    }

    /// Mounts the endpoints. `wrap` may put a middleware around each route but the live page's stream, whose requests
    /// last as long as the page is open.
    pub fn configure(&self, config: &mut web::ServiceConfig, wrap: &dyn Fn(Route) -> Route) {
        let shared = &*self.shared;
        config
            .app_data(web::Data::from(Arc::clone(&shared.scraper)))
            .app_data(web::Data::new(shared.health.clone()))
            .service(shared.get(wrap, "/metrics", scrape::get_metrics))
            .service(shared.get(wrap, "/livez", health::get_livez))
            .service(shared.get(wrap, "/readyz", health::get_readyz))
            .service(shared.get(wrap, "/health", health::get_health));
        if let (true, Some(database)) = (shared.settings.statements, &shared.watched.database) {
            shared.configure_statements(config, wrap, database);
        }
        if let Some(Some(dashboard)) = shared.dashboard.get() {
            config
                .app_data(web::Data::new(dashboard.clone()))
                .service(shared.get(wrap, "/dashboard", dashboard::get_page))
                .service(shared.get(wrap, "/dashboard/history", dashboard::get_history))
                .service(shared.stream("/dashboard/stream"))
                .service(shared.get(wrap, "/dashboard/{part}", dashboard::get_asset));
        }
    }
}

impl Shared {
    fn configure_statements(
        &self,
        config: &mut web::ServiceConfig,
        wrap: &dyn Fn(Route) -> Route,
        database: &Database,
    ) {
        let table = database.statements().clone();
        config
            .app_data(web::Data::new(table))
            .app_data(web::Data::new(self.gatherings.clone()))
            .service(self.get(wrap, "/ops/statements", statements::get_statements));
        if self.settings.reset {
            let reset = self.attended(wrap(web::post().to(statements::reset_statements)));
            let resource = web::resource("/ops/statements/reset")
                .route(reset)
                .default_service(other_methods("POST, OPTIONS"));
            config.service(self.mounted(resource));
        }
    }

    fn start_dashboard(&self) -> Option<Dashboard> {
        let requests = self.watched.http.notable().clone();
        let statements = (self.watched.database.as_ref()).filter(|_| self.settings.statements);
        let details = Details::new(
            statements.map(|database| database.statements().clone()),
            requests,
        );
        let own = Own {
            endpoints: self.watched.endpoints.clone(),
            in_progress: self.attendance.clone(),
        };
        let page = self.settings.page.clone();
        let sources = self.watched.sources();
        let gatherings = self.gatherings.clone();
        Dashboard::start(
            self.scraper.registry(),
            sources,
            page,
            own,
            details,
            gatherings,
        )
        .inspect_err(
            |error| tracing::error!(%error, "there is no live page: no thread can be started"),
        )
        .ok()
    }

    /// A resource that answers GET and HEAD, and 405 with `Allow` to all else.
    ///
    /// The 405 is not wrapped: a middleware that counts by method would make a series of every method that a client
    /// invents.
    fn get<F, Args>(
        &self,
        wrap: &dyn Fn(Route) -> Route,
        path: &str,
        handler: F,
    ) -> impl HttpServiceFactory + use<F, Args>
    where
        F: actix_web::Handler<Args> + Clone,
        Args: actix_web::FromRequest + 'static,
        F::Output: actix_web::Responder + 'static,
    {
        let resource = web::resource(path)
            .route(self.attended(wrap(web::get().to(handler.clone()))))
            .route(self.attended(wrap(web::head().to(handler))))
            .default_service(other_methods("GET, HEAD, OPTIONS"));
        self.mounted(resource)
    }

    /// The page's stream, for GET only: it has no head to tell but its content type.
    fn stream(&self, path: &str) -> impl HttpServiceFactory + use<> {
        let resource = web::resource(path)
            .route(self.attended(web::get().to(dashboard::get_stream)))
            .default_service(other_methods("GET, OPTIONS"));
        self.mounted(resource)
    }

    /// Returns a resource that learns its mounted path from recorded requests: in a scope, it does not know the path
    /// before.
    fn mounted(&self, resource: Resource) -> impl HttpServiceFactory + use<> {
        let (recorder, endpoints) = (
            Arc::clone(&self.watched.http),
            self.watched.endpoints.clone(),
        );
        resource.wrap_fn(move |request, service| {
            if recorder.is_recording()
                && let Some(pattern) = request.match_pattern()
            {
                endpoints.add(&pattern);
            }
            service.call(request)
        })
    }

    /// A request that the live page leaves out of those that it shows in progress.
    fn attended(&self, route: Route) -> Route {
        let attendance = self.attendance.clone();
        let recorder = Arc::clone(&self.watched.http);
        route.wrap(from_fn(move |request: ServiceRequest, next| {
            // A request that is not recorded is in no gauge either.
            let pattern = request.match_pattern();
            let is_shown = recorder.is_recording()
                && !pattern.is_some_and(|pattern| recorder.excludes(&pattern));
            attendance.clone().attend(is_shown, request, next)
        }))
    }
}

impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ops").finish_non_exhaustive()
    }
}
