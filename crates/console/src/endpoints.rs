//! The list of all ops endpoints. Their routes, [`serves`], the index, the greeting of the service and the tests derive
//! from it.
//!
//! A module for each group of endpoints contains the handlers; those of the live page are in `dashboard`. To add an
//! endpoint, add an entry to [`ENDPOINTS`]: CONTRIBUTING.md has the recipe.

mod errors;
pub(crate) mod health;
mod index;
mod inline_answer;
mod kept;
mod log;
pub(crate) mod parameters;
mod plan;
mod pool;
mod profile;
mod requests;
pub(crate) mod scrape;
mod statement;
pub mod statements;
pub(crate) mod unknown_length;

use actix_web::{Route, http::Method, web::to};

use crate::dashboard;

/// Every ops endpoint, in the order in which they are mounted: a pattern comes after the paths that it covers.
pub static ENDPOINTS: &[OpsEndpoint] = &[
    OpsEndpoint {
        path: "/metrics",
        summary: "All metrics, for Prometheus and OpenMetrics",
        choice: OpsChoice::Always,
        methods: OpsMethods::Read,
        parameters: None,
        is_page_part: false,
        route: || to(scrape::get_metrics),
    },
    OpsEndpoint {
        path: "/livez",
        summary: "Whether the process answers",
        choice: OpsChoice::Always,
        methods: OpsMethods::Read,
        parameters: None,
        is_page_part: false,
        route: || to(health::get_livez),
    },
    OpsEndpoint {
        path: "/readyz",
        summary: "Whether requests should be sent here",
        choice: OpsChoice::Always,
        methods: OpsMethods::Read,
        parameters: None,
        is_page_part: false,
        route: || to(health::get_readyz),
    },
    OpsEndpoint {
        path: "/health",
        summary: "Whether the database can be reached",
        choice: OpsChoice::Always,
        methods: OpsMethods::Read,
        parameters: None,
        is_page_part: false,
        route: || to(health::get_health),
    },
    OpsEndpoint {
        path: "/ops",
        summary: "The ops endpoints that exist",
        choice: OpsChoice::Index,
        methods: OpsMethods::Read,
        parameters: Some(&[]),
        is_page_part: false,
        route: || to(index::get_index),
    },
    OpsEndpoint {
        path: "/ops/log",
        summary: "Log by another filter, for a time",
        choice: OpsChoice::Log,
        methods: OpsMethods::Set,
        parameters: Some(log::PARAMETERS),
        is_page_part: false,
        route: || to(log::put_log),
    },
    OpsEndpoint {
        path: "/ops/requests",
        summary: "The requests in flight, and what each of them does",
        choice: OpsChoice::Requests,
        methods: OpsMethods::Read,
        parameters: Some(&[]),
        is_page_part: false,
        route: || to(requests::get_requests),
    },
    OpsEndpoint {
        path: "/ops/pool",
        summary: "Who holds the connections to the database, and who waits for one",
        choice: OpsChoice::Pool,
        methods: OpsMethods::Read,
        parameters: Some(&[]),
        is_page_part: false,
        route: || to(pool::get_pool),
    },
    OpsEndpoint {
        path: "/ops/requests/kept",
        summary: "The requests that are kept with their timelines",
        choice: OpsChoice::Requests,
        methods: OpsMethods::Read,
        parameters: Some(kept::PARAMETERS),
        is_page_part: false,
        route: || to(kept::list_kept),
    },
    OpsEndpoint {
        path: "/ops/requests/{id}",
        summary: "What one kept request spent its time on",
        choice: OpsChoice::Requests,
        methods: OpsMethods::Read,
        parameters: Some(&[]),
        is_page_part: false,
        route: || to(kept::get_timeline),
    },
    OpsEndpoint {
        path: "/ops/errors",
        summary: "The failed requests, by endpoint and cause",
        choice: OpsChoice::Requests,
        methods: OpsMethods::Read,
        parameters: Some(&[]),
        is_page_part: false,
        route: || to(errors::get_errors),
    },
    OpsEndpoint {
        path: "/ops/statements",
        summary: "The statements that cost most, by shape",
        choice: OpsChoice::Statements,
        methods: OpsMethods::Read,
        parameters: Some(statements::PARAMETERS),
        is_page_part: false,
        route: || to(statements::get_statements),
    },
    OpsEndpoint {
        path: "/ops/statements/reset",
        summary: "Count statements from now on",
        choice: OpsChoice::Reset,
        methods: OpsMethods::Change,
        parameters: Some(&[]),
        is_page_part: false,
        route: || to(statements::reset_statements),
    },
    OpsEndpoint {
        path: "/ops/statements/{id}",
        summary: "One statement: its endpoints, its last hour, its kept requests",
        choice: OpsChoice::Statements,
        methods: OpsMethods::Read,
        parameters: Some(&[]),
        is_page_part: false,
        route: || to(statement::get_statement),
    },
    OpsEndpoint {
        path: "/ops/profile",
        summary: "The page of the profiles",
        choice: OpsChoice::Profiles,
        methods: OpsMethods::Read,
        parameters: None,
        is_page_part: false,
        route: || to(profile::get_page),
    },
    OpsEndpoint {
        path: "/ops/profile/cpu",
        summary: "Where the processor time goes",
        choice: OpsChoice::Profiles,
        methods: OpsMethods::Read,
        parameters: Some(&["seconds", "hz", "format"]),
        is_page_part: false,
        route: || to(profile::get_cpu),
    },
    OpsEndpoint {
        path: "/ops/profile/heap",
        summary: "What holds the memory, or what has grown",
        choice: OpsChoice::Profiles,
        methods: OpsMethods::Read,
        parameters: Some(&["since", "seconds", "format"]),
        is_page_part: false,
        route: || to(profile::get_heap),
    },
    OpsEndpoint {
        path: "/ops/profile/kept",
        summary: "The profiles that are kept, and those that are being taken",
        choice: OpsChoice::Profiles,
        methods: OpsMethods::Read,
        parameters: Some(&[]),
        is_page_part: false,
        route: || to(profile::list_kept),
    },
    OpsEndpoint {
        path: "/ops/profile/kept/{id}",
        summary: "One kept profile",
        choice: OpsChoice::Profiles,
        methods: OpsMethods::Read,
        parameters: Some(&["since", "format"]),
        is_page_part: false,
        route: || to(profile::get_kept),
    },
    OpsEndpoint {
        path: "/ops/profile/{part}",
        summary: "The script and the style of the page of the profiles",
        choice: OpsChoice::Profiles,
        methods: OpsMethods::Read,
        parameters: None,
        is_page_part: true,
        route: || to(profile::get_part),
    },
    OpsEndpoint {
        path: "/dashboard",
        summary: "The live page: the last hour, at a glance",
        choice: OpsChoice::Dashboard,
        methods: OpsMethods::Read,
        parameters: None,
        is_page_part: false,
        route: || to(dashboard::get_page),
    },
    OpsEndpoint {
        path: "/dashboard/history",
        summary: "The ticks that the live page shows first",
        choice: OpsChoice::Dashboard,
        methods: OpsMethods::Read,
        parameters: None,
        is_page_part: true,
        route: || to(dashboard::get_history),
    },
    OpsEndpoint {
        path: "/dashboard/stream",
        summary: "One event a second, while the live page is open",
        choice: OpsChoice::Dashboard,
        methods: OpsMethods::Stream,
        parameters: None,
        is_page_part: true,
        route: || to(dashboard::get_stream),
    },
    OpsEndpoint {
        path: "/dashboard/{part}",
        summary: "The scripts, the style and the icon of the live page",
        choice: OpsChoice::Dashboard,
        methods: OpsMethods::Read,
        parameters: None,
        is_page_part: true,
        route: || to(dashboard::get_asset),
    },
];

/// An ops endpoint: where it is, what it is for, and which setting adds it.
#[derive(Debug)]
pub struct OpsEndpoint {
    path: &'static str,
    summary: &'static str,
    choice: OpsChoice,
    methods: OpsMethods,
    parameters: Option<&'static [&'static str]>,
    is_page_part: bool,
    route: fn() -> Route,
}

impl OpsEndpoint {
    /// The pattern of its path, below the scope that the ops endpoints are mounted in.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// What the endpoint is for, in a few words.
    pub fn summary(&self) -> &'static str {
        self.summary
    }

    /// The setting that adds the endpoint.
    pub fn choice(&self) -> OpsChoice {
        self.choice
    }

    /// The methods that the endpoint has, besides `OPTIONS`.
    pub fn methods(&self) -> OpsMethods {
        self.methods
    }

    /// The names of its parameters in the query string; all others are rejected. `None` if others are ignored, because
    /// browsers, load balancers and scrapers may add some.
    pub fn parameters(&self) -> Option<&'static [&'static str]> {
        self.parameters
    }

    /// Whether only the live page requests it. What such an endpoint answers may change with any version.
    pub fn is_page_part(&self) -> bool {
        self.is_page_part
    }

    /// The routes of all its methods.
    pub(crate) fn routes(&self) -> impl Iterator<Item = Route> {
        let methods = self.methods.list().iter();
        methods.map(|method| (self.route)().method(method.clone()))
    }
}

/// What adds an ops endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpsChoice {
    /// Nothing: the endpoint always exists.
    Always,
    /// [`OpsSettings::with`](crate::OpsSettings::with).
    Index,
    /// [`OpsSettings::with_log`](crate::OpsSettings::with_log).
    Log,
    /// [`OpsSettings::with_requests`](crate::OpsSettings::with_requests).
    Requests,
    /// [`OpsSettings::with_pool`](crate::OpsSettings::with_pool), in a service with a database.
    Pool,
    /// [`OpsSettings::with_statements`](crate::OpsSettings::with_statements), in a service with a database.
    Statements,
    /// [`OpsSettings::with_reset`](crate::OpsSettings::with_reset), in a service with a database.
    Reset,
    /// [`OpsSettings::with_dashboard`](crate::OpsSettings::with_dashboard).
    Dashboard,
    /// [`OpsSettings::with_profiles`](crate::OpsSettings::with_profiles).
    Profiles,
}

impl OpsChoice {
    /// Every choice of [`OpsSettings::everything`](crate::OpsSettings::everything): all but [`Log`](Self::Log) and
    /// [`Profiles`](Self::Profiles).
    pub const ALL: [Self; 6] = [
        Self::Index,
        Self::Requests,
        Self::Pool,
        Self::Statements,
        Self::Reset,
        Self::Dashboard,
    ];

    /// Whether its endpoints exist only in a service with a database.
    pub(crate) fn needs_database(self) -> bool {
        matches!(self, Self::Pool | Self::Statements | Self::Reset)
    }

    /// Whether this choice adds the endpoints of the other one.
    pub(crate) fn includes(self, other: Self) -> bool {
        self == other || (self == Self::Reset && other == Self::Statements)
    }
}

/// The methods of an ops endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpsMethods {
    /// `GET` and `HEAD`.
    Read,
    /// `GET`, whose answer ends when the client leaves, and `HEAD`.
    Stream,
    /// `POST`.
    Change,
    /// `PUT`.
    Set,
}

static READ: [Method; 2] = [Method::GET, Method::HEAD];
static CHANGE: [Method; 1] = [Method::POST];
static SET: [Method; 1] = [Method::PUT];

impl OpsMethods {
    /// Each of the methods.
    pub fn list(self) -> &'static [Method] {
        match self {
            Self::Read | Self::Stream => &READ,
            Self::Change => &CHANGE,
            Self::Set => &SET,
        }
    }

    /// The value of `Allow`, which has `OPTIONS` as well.
    pub(crate) fn allow(self) -> &'static str {
        match self {
            Self::Read | Self::Stream => "GET, HEAD, OPTIONS",
            Self::Change => "POST, OPTIONS",
            Self::Set => "PUT, OPTIONS",
        }
    }
}

/// Whether a path is that of an ops endpoint, or may be one below it: its first segment is that of an endpoint.
///
/// For a service that mounts the ops endpoints among its own routes, in a scope with a middleware of their own.
pub fn serves(path: &str) -> bool {
    let first = first_segment(path);
    ENDPOINTS
        .iter()
        .any(|endpoint| first_segment(endpoint.path) == first)
}

/// The text between the first two slashes of a path, or after the only one.
fn first_segment(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_ops_endpoints_and_below_are_served_and_no_others() {
        for endpoint in ENDPOINTS {
            assert!(serves(endpoint.path), "{}", endpoint.path);
        }
        for (path, expected) in [
            ("/ops/nothing", true),
            ("/metrics/", true),
            ("/dashboard/app.js", true),
            ("/", false),
            ("", false),
            ("metrics", false),
            ("/metrics2", false),
            ("/Metrics", false),
            ("/data/metrics", false),
            ("//metrics", false),
            ("/health;a=b", false),
        ] {
            assert_eq!(serves(path), expected, "{path}");
        }
    }

    #[test]
    fn a_pattern_comes_after_the_paths_that_it_covers() {
        let patterns = ENDPOINTS.iter().enumerate();
        for (at, pattern) in patterns.filter(|(_, endpoint)| endpoint.path.contains('{')) {
            let (parent, _) = pattern.path.split_once('{').unwrap();
            let later = ENDPOINTS[at + 1..].iter();
            for endpoint in later {
                assert!(!endpoint.path.starts_with(parent), "{}", endpoint.path);
            }
        }
    }

    #[test]
    fn each_path_is_listed_once_and_allows_its_methods() {
        for (at, endpoint) in ENDPOINTS.iter().enumerate() {
            let mut earlier = ENDPOINTS[..at].iter();
            assert!(earlier.all(|other| other.path != endpoint.path));
            let names = endpoint.methods.list().iter().map(Method::as_str);
            let allowed: Vec<_> = names.chain(["OPTIONS"]).collect();
            assert_eq!(allowed.join(", "), endpoint.methods.allow());
        }
    }
}
