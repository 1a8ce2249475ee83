//! The settings of the ops endpoints: which of them exist, and how they are served.

use std::time::Duration;

use crate::{
    dashboard::DashboardSettings,
    endpoints::{OpsChoice, scrape::ScrapeSettings},
    log_control::LogControl,
};

/// Which ops endpoints exist, and how they are served.
///
/// `/metrics`, `/livez`, `/readyz` and `/health` always exist. The others show more of the service than its numbers, or
/// change something. Each is a choice: [`with_statements`](Self::with_statements), [`with_reset`](Self::with_reset),
/// [`with_dashboard`](Self::with_dashboard), any other [`with`](Self::with), or all of them with
/// [`everything`](Self::everything). Mount them where only operators can reach them, for example on a second listener.
#[derive(Clone, Debug, Default)]
pub struct OpsSettings {
    choices: Vec<OpsChoice>,
    pub(crate) log: Option<LogControl>,
    pub(crate) scrape: ScrapeSettings,
    pub(crate) page: DashboardSettings,
}

impl OpsSettings {
    /// The scrape and the health checks, with the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// All endpoints, with the default limits. Only `/ops/log` and `/ops/profile` need [`with_log`](Self::with_log) and
    /// [`with_profiles`](Self::with_profiles) as well.
    pub fn everything() -> Self {
        OpsChoice::ALL.into_iter().fold(Self::new(), Self::with)
    }

    /// Adds the endpoints of a choice, and those of the choices that it includes.
    #[must_use]
    pub fn with(mut self, choice: OpsChoice) -> Self {
        self.choices.push(choice);
        self
    }

    /// Adds `GET /ops/requests`: the requests in flight, and what each of them does. Adds `GET /ops/requests/kept` and
    /// `GET /ops/requests/{id}`: single requests of the past, and what their time was spent on. Adds `GET /ops/errors`: why
    /// requests failed. All are shown by endpoint, without paths, headers and values, but with the ids of traces, the shapes
    /// of statements and the types of errors.
    #[must_use]
    pub fn with_requests(self) -> Self {
        self.with(OpsChoice::Requests)
    }

    /// Adds `GET /ops/pool`: who holds the connections of each pool, and who waits for one. They are shown by endpoint or
    /// job, with the ids of traces, the shapes of statements and locations in the source code.
    #[must_use]
    pub fn with_pool(self) -> Self {
        self.with(OpsChoice::Pool)
    }

    /// Adds `GET /ops/statements`, `GET /ops/statements/{id}`, and the statements on the live page. Statements are shown by shape: without values, but
    /// with the names of tables and columns.
    #[must_use]
    pub fn with_statements(self) -> Self {
        self.with(OpsChoice::Statements)
    }

    /// Adds `POST /ops/statements/reset`, which counts the statements from now on, and what
    /// [`with_statements`](Self::with_statements) adds.
    #[must_use]
    pub fn with_reset(self) -> Self {
        self.with(OpsChoice::Reset)
    }

    /// Adds `PUT /ops/log`, which uses another filter of the log for a time, and the filter in `GET /ops`. The log is your
    /// program's: `log` replaces its filter.
    #[must_use]
    pub fn with_log(mut self, log: LogControl) -> Self {
        self.log = Some(log);
        self.with(OpsChoice::Log)
    }

    /// Adds `/ops/profile`: profiles of the processor time and of the heap, and a page for them. They show names and lines
    /// of the code, and endpoints; no value, argument or text. Needs the feature `profiling`. From now on jemalloc samples
    /// allocations, if it was started with `prof:true`.
    #[must_use]
    pub fn with_profiles(self) -> Self {
        self.with(OpsChoice::Profiles)
    }

    /// Adds `/dashboard`: the live page, its assets and its stream.
    #[must_use]
    pub fn with_dashboard(self) -> Self {
        self.with(OpsChoice::Dashboard)
    }

    /// How many scrapes of one client may wait at once. All other clients together may have as many again. Further scrapes
    /// are answered 503 with `Retry-After`. Default 64.
    ///
    /// Scrapes that coincide share one gathering.
    #[must_use]
    pub fn scrapes_waiting(mut self, most: usize) -> Self {
        self.scrape.max_waiting = most;
        self
    }

    /// How long a scrape may take before it is answered 503. Default 10 seconds.
    ///
    /// A client that sends `X-Prometheus-Scrape-Timeout-Seconds`, as Prometheus does, is answered within that time instead.
    /// All collectors together have half of this time: the exposition leaves out the rows of a collector that does not
    /// return.
    #[must_use]
    pub fn scrape_timeout(mut self, timeout: Duration) -> Self {
        self.scrape.timeout = timeout;
        self
    }

    /// The name and the version of the service on the live page. By default the name of the program, without a version.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.page.name = name.into();
        self.page.version = version.into();
        self
    }

    /// The URL of the service's API documentation, for a link on the live page: absolute, or relative to the page. By
    /// default the page has no such link.
    #[must_use]
    pub fn documentation(mut self, url: impl Into<String>) -> Self {
        self.page.documentation = Some(url.into());
        self
    }

    /// Whether the endpoints of a choice are wanted.
    pub(crate) fn has(&self, choice: OpsChoice) -> bool {
        choice == OpsChoice::Always || self.choices.iter().any(|chosen| chosen.includes(choice))
    }
}
