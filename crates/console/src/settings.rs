//! The settings of the ops endpoints: which of them exist, and how they are served.

use std::time::Duration;

use crate::{
    dashboard::DashboardSettings,
    endpoints::{OpsChoice, scrape::ScrapeSettings},
};

/// Which ops endpoints exist, and how they are served.
///
/// `/metrics`, `/livez`, `/readyz` and `/health` always exist. The others show more of the service than its numbers, or
/// change something. Each is a choice: [`with_statements`](Self::with_statements), [`with_reset`](Self::with_reset),
/// [`with_dashboard`](Self::with_dashboard), or all of them with [`everything`](Self::everything). Mount them where only operators can reach them, for example on a second listener.
#[derive(Clone, Debug, Default)]
pub struct OpsSettings {
    statements: bool,
    reset: bool,
    dashboard: bool,
    pub(crate) scrape: ScrapeSettings,
    pub(crate) page: DashboardSettings,
}

impl OpsSettings {
    /// The scrape and the health checks, with the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// All endpoints, with the default limits.
    pub fn everything() -> Self {
        Self::new().with_reset().with_dashboard()
    }

    /// Adds `GET /ops/statements`, and the statements on the live page. Statements are shown by shape: without values, but
    /// with the names of tables and columns.
    #[must_use]
    pub fn with_statements(mut self) -> Self {
        self.statements = true;
        self
    }

    /// Adds `POST /ops/statements/reset`, which clears the statements, and `GET /ops/statements` with it.
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
        match choice {
            OpsChoice::Always => true,
            OpsChoice::Statements => self.statements,
            OpsChoice::Reset => self.reset,
            OpsChoice::Dashboard => self.dashboard,
        }
    }
}
