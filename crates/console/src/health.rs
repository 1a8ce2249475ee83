//! The health checks: is the process alive, and are the things that it depends on there?

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use actix_web::{HttpResponse, http::StatusCode, http::header, web};
use serde::Serialize;

use vitals_recorder::{log_limit::LogLimit, panics};

/// How long a probe may take before its dependency counts as unreachable.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);

/// The result of a check.
#[derive(Clone, Debug)]
pub(super) enum Finding {
    /// There is nothing to ask.
    Nothing,
    /// The database answers.
    Reachable,
    /// It does not.
    Unreachable(ProbeError),
    /// The probe of the service itself did not come to an end.
    ProbeHangs,
    /// It panicked.
    ProbePanicked,
}

type ProbeFuture = Pin<Box<dyn Future<Output = Finding>>>;

/// Why a probe failed, as one sentence that the public may read: it names no address, no credential and no statement.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProbeError(pub String);

/// The source that a check asks.
#[derive(Clone)]
enum Probe {
    /// The pools that are instrumented.
    Pools(Arc<dyn Fn() -> ProbeFuture + Send + Sync>),
    /// The service's own probe in their place.
    Custom(Arc<dyn Fn() -> ProbeFuture + Send + Sync>),
}

/// The state behind `/livez`, `/readyz` and `/health`: a probe of the database, and whether the server is draining.
#[derive(Clone)]
pub(super) struct Health {
    probe: Arc<RwLock<Probe>>,
    draining: Arc<AtomicBool>,
}

impl Health {
    /// Health that depends on what `pools` finds: it is called for each check, and given up after 1.5 seconds.
    pub(super) fn new<F, Fut>(pools: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Finding> + 'static,
    {
        let probe = Probe::Pools(Arc::new(move || Box::pin(pools())));
        Self {
            probe: Arc::new(RwLock::new(probe)),
            draining: Arc::default(),
        }
    }

    /// Asks `probe` from now on.
    pub(super) fn check<F, Fut>(&self, probe: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ProbeError>> + 'static,
    {
        let probe = Probe::Custom(Arc::new(move || {
            let answer = probe();
            Box::pin(async move {
                match answer.await {
                    Ok(()) => Finding::Reachable,
                    Err(error) => Finding::Unreachable(error),
                }
            })
        }));
        *self.probe.write().unwrap_or_else(PoisonError::into_inner) = probe;
    }

    /// From now on `/readyz` answers 503: the server is about to stop, and wants no new traffic.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    async fn check_database(&self) -> Finding {
        let probe = (self.probe.read().unwrap_or_else(PoisonError::into_inner)).clone();
        let (Probe::Pools(ask) | Probe::Custom(ask)) = &probe;
        let asked = tokio::time::timeout(PROBE_TIMEOUT, caught(&**ask));
        match (asked.await, &probe) {
            (Ok(finding), _) => finding,
            (Err(_), Probe::Custom(_)) => Finding::ProbeHangs,
            (Err(_), Probe::Pools(_)) => {
                let seconds = PROBE_TIMEOUT.as_secs_f64();
                let detail = format!("the database did not answer within {seconds} s");
                Finding::Unreachable(ProbeError(detail))
            }
        }
    }
}

/// Returns the finding of a probe. A panic of the probe is a finding as well, so that the caller gets an answer.
async fn caught(ask: &(dyn Fn() -> ProbeFuture + Send + Sync)) -> Finding {
    let mut asking = None;
    poll_fn(|context| {
        let polled = AssertUnwindSafe(|| asking.get_or_insert_with(ask).as_mut().poll(context));
        catch_unwind(polled).unwrap_or_else(|panic| {
            static LINES: LogLimit = LogLimit::new();
            if let Some(line) = LINES.line() {
                let (left_out, message) = (line.left_out, panics::message(&*panic));
                tracing::error!(left_out, "the health probe panicked: {message}");
            }
            Poll::Ready(Finding::ProbePanicked)
        })
    })
    .await
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health")
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Report {
    const OK: Self = Self {
        status: "ok",
        database: None,
        detail: None,
    };

    fn of(finding: Finding) -> Self {
        match finding {
            Finding::Nothing => Self::OK,
            Finding::Reachable => Self {
                database: Some("reachable"),
                ..Self::OK
            },
            Finding::Unreachable(error) => Self {
                status: "error",
                database: Some("unreachable"),
                detail: Some(error.to_string()),
            },
            Finding::ProbePanicked => Self {
                status: "error",
                database: None,
                detail: Some("the health probe panicked".to_owned()),
            },
            Finding::ProbeHangs => Self {
                status: "error",
                database: None,
                detail: Some(format!(
                    "the health probe did not answer within {} s",
                    PROBE_TIMEOUT.as_secs_f64()
                )),
            },
        }
    }

    fn respond(self) -> HttpResponse {
        let status = if self.status == "ok" {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        HttpResponse::build(status)
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .json(self)
    }
}

/// `GET /livez`: the process answers. Never looks at the database: a restart would not bring that back.
pub(super) async fn get_livez() -> HttpResponse {
    Report::OK.respond()
}

/// `GET /readyz`: the process and its database. 503 takes the instance out of its load balancer.
pub(super) async fn get_readyz(health: web::Data<Health>) -> HttpResponse {
    if health.draining.load(Ordering::Relaxed) {
        return Report {
            status: "error",
            database: None,
            detail: Some("the server is shutting down".to_owned()),
        }
        .respond();
    }
    Report::of(health.check_database().await).respond()
}

/// `GET /health`: the same for people, without the shutdown.
pub(super) async fn get_health(health: web::Data<Health>) -> HttpResponse {
    Report::of(health.check_database().await).respond()
}
