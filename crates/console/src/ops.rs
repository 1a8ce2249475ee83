//! The state behind the ops endpoints, and how they are mounted. All applications of a process share it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use actix_web::{
    Route,
    body::BoxBody,
    dev::{HttpServiceFactory, Service, ServiceRequest},
    middleware::{Next, from_fn},
    web::{self, ServiceConfig},
};
use vitals_recorder::{database::Database, methods::other_methods};
use vitals_registry::Registry;

use crate::{
    dashboard::{Dashboard, Details, OpsTraffic},
    endpoints::{
        ENDPOINTS, OpsChoice, OpsEndpoint, OpsMethods,
        health::{Finding, HealthChecks, ProbeError},
        parameters::check_names,
        scrape::Scraper,
    },
    heavy_answers::HeavyAnswers,
    in_progress::OpsInProgress,
    log_control::LogControl,
    profiles::Profiles,
    settings::OpsSettings,
    watched::Watched,
};

/// The ops endpoints and the state behind them. Cheap to clone; all clones share the state.
#[derive(Clone)]
pub struct Ops {
    inner: Arc<OpsInner>,
}

struct OpsInner {
    settings: OpsSettings,
    scraper: Arc<Scraper>,
    health: HealthChecks,
    watched: Watched,
    heavy_answers: HeavyAnswers,
    in_progress: OpsInProgress,
    profiles: Option<Profiles>,
    /// Started when the endpoints are first mounted. `None` inside if its thread could not be started.
    dashboard: OnceLock<Option<Dashboard>>,
}

impl Ops {
    /// Sets up the endpoints over a registry.
    pub fn new(registry: &Registry, settings: OpsSettings, watched: Watched) -> Self {
        let scraper = Scraper::new(registry.clone(), settings.scrape, watched.memory.clone());
        Self {
            inner: Arc::new(OpsInner {
                scraper: Arc::new(scraper),
                health: health_of_pools(watched.database.as_ref()),
                heavy_answers: HeavyAnswers::new(watched.memory.clone()),
                in_progress: OpsInProgress::default(),
                profiles: settings.has(OpsChoice::Profiles).then(Profiles::prepare),
                dashboard: OnceLock::new(),
                settings,
                watched,
            }),
        }
    }

    /// Starts the thread of the live page, if there is one, at the first call. Call it before [`configure`](Self::configure).
    pub fn start(&self) {
        if self.inner.settings.has(OpsChoice::Dashboard) {
            self.inner
                .dashboard
                .get_or_init(|| self.inner.start_dashboard());
        }
    }

    /// The recorders that the endpoints read.
    pub(crate) fn watched(&self) -> &Watched {
        &self.inner.watched
    }

    /// Replaces the checks of the pools by `probe`.
    pub fn check_health<F, Fut>(&self, probe: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ProbeError>> + 'static,
    {
        self.inner.health.check(probe);
    }

    /// Makes `/readyz` answer 503 from now on, and ends the streams of open pages and the profiles: the server is about to
    /// stop.
    pub fn drain(&self) {
        self.inner.health.drain();
        if let Some(Some(dashboard)) = self.inner.dashboard.get() {
            dashboard.close();
        }
        if let Some(profiles) = &self.inner.profiles {
            profiles.close();
        }
    }

    /// The endpoints that the settings ask for, and whose recorders exist.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &'static OpsEndpoint> {
        self.inner.endpoints()
    }

    /// Whether the settings ask for the endpoints of this choice.
    pub(crate) fn has(&self, choice: OpsChoice) -> bool {
        self.inner.settings.has(choice)
    }

    /// The control of the log's filter, if there is one.
    pub(crate) fn log(&self) -> Option<&LogControl> {
        self.inner.settings.log.as_ref()
    }

    /// Mounts the endpoints that exist.
    ///
    /// `wrap` may put a middleware around each route. It does not get the live page's stream, whose requests last as long as
    /// the page is open, nor the answers to methods that an endpoint does not have: a middleware that counts by method would
    /// make a series of every method that a client invents.
    pub fn configure(&self, config: &mut ServiceConfig, wrap: &dyn Fn(Route) -> Route) {
        let inner = &*self.inner;
        config
            .app_data(web::Data::new(self.clone()))
            .app_data(web::Data::from(Arc::clone(&inner.scraper)))
            .app_data(web::Data::new(inner.health.clone()))
            .app_data(web::Data::new(inner.heavy_answers.clone()));
        if let Some(database) = &inner.watched.database {
            config.app_data(web::Data::new(database.statements().clone()));
        }
        if let Some(log) = &inner.settings.log {
            config.app_data(web::Data::new(log.clone()));
        }
        if let Some(profiles) = &inner.profiles {
            config.app_data(web::Data::new(profiles.clone()));
        }
        if let Some(Some(dashboard)) = inner.dashboard.get() {
            config.app_data(web::Data::new(dashboard.clone()));
        }
        for endpoint in self.endpoints() {
            config.service(inner.resource(endpoint, wrap));
        }
    }
}

impl OpsInner {
    /// A resource with the routes of an endpoint. It answers 405 with `Allow` to all other methods.
    ///
    /// It learns the pattern that it is mounted under from recorded requests: a resource in a scope does not know its
    /// prefix.
    fn resource(
        &self,
        endpoint: &OpsEndpoint,
        wrap: &dyn Fn(Route) -> Route,
    ) -> impl HttpServiceFactory + use<> {
        let resource = web::resource(endpoint.path());
        let resource = endpoint.routes().fold(resource, |resource, route| {
            let route = match endpoint.methods() {
                OpsMethods::Read | OpsMethods::Change | OpsMethods::Set => {
                    wrap(checked(route, endpoint.parameters()))
                }
                OpsMethods::Stream => route,
            };
            resource.route(self.counted(route))
        });
        let recorder = Arc::clone(&self.watched.http);
        let endpoints = self.watched.endpoints.clone();
        resource
            .default_service(other_methods(endpoint.methods().allow()))
            .wrap_fn(move |request, service| {
                if recorder.is_recording()
                    && let Some(pattern) = request.match_pattern()
                {
                    endpoints.add(&pattern);
                }
                service.call(request)
            })
    }

    /// Counts the requests of a route that are in progress, for the live page to subtract from the gauge of all requests.
    fn counted(&self, route: Route) -> Route {
        let in_progress = self.in_progress.clone();
        let recorder = Arc::clone(&self.watched.http);
        route.wrap(from_fn(move |request: ServiceRequest, next| {
            // A request that is not recorded is not in the gauge.
            let pattern = request.match_pattern();
            let is_in_gauge = recorder.is_recording()
                && !pattern.is_some_and(|pattern| recorder.excludes(&pattern));
            in_progress.clone().track(is_in_gauge, request, next)
        }))
    }

    fn endpoints(&self) -> impl Iterator<Item = &'static OpsEndpoint> {
        ENDPOINTS.iter().filter(|endpoint| {
            let choice = endpoint.choice();
            let can_be_served = match choice {
                OpsChoice::Dashboard => matches!(self.dashboard.get(), Some(Some(_))),
                OpsChoice::Log => self.settings.log.is_some(),
                _ => !choice.needs_database() || self.watched.database.is_some(),
            };
            can_be_served && self.settings.has(choice)
        })
    }

    fn start_dashboard(&self) -> Option<Dashboard> {
        let details = Details::new(self.watched.http.notable().clone());
        let ops_traffic = OpsTraffic {
            endpoints: self.watched.endpoints.clone(),
            in_progress: self.in_progress.clone(),
        };
        Dashboard::start(
            self.scraper.registry(),
            self.watched.sources(),
            self.settings.page.clone(),
            self.endpoints().map(OpsEndpoint::path).collect(),
            ops_traffic,
            details,
            self.heavy_answers.clone(),
        )
        .inspect_err(|error| tracing::error!(%error, "no live page: its thread cannot be started"))
        .ok()
    }
}

/// Rejects requests with other parameters than the `accepted` ones, if there is a list of these.
fn checked(route: Route, accepted: Option<&'static [&'static str]>) -> Route {
    let Some(accepted) = accepted else {
        return route;
    };
    route.wrap(from_fn(
        async move |request: ServiceRequest, next: Next<BoxBody>| {
            match check_names(request.query_string(), accepted) {
                Ok(()) => next.call(request).await,
                // Not an error: a middleware around the route may count answers alone.
                Err(problem) => Ok(request.into_response(problem.to_response())),
            }
        },
    ))
}

/// Health checks that ping the instrumented pools.
fn health_of_pools(database: Option<&Database>) -> HealthChecks {
    let levels = database.map(|database| database.levels().clone());
    HealthChecks::new(move || {
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
    })
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").finish_non_exhaustive()
    }
}
