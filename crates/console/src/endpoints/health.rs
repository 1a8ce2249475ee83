//! `GET /livez`, `/readyz` and `/health`: whether the process answers, and whether its database can be reached.

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

/// How long a check may take before the database counts as unreachable.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);

/// The result of a check.
#[derive(Clone, Debug)]
pub(crate) enum Finding {
    /// There is no database to check.
    Nothing,
    /// The database answers.
    Reachable,
    /// The database does not answer.
    Unreachable(ProbeError),
    /// The service's own probe did not return in time.
    ProbeHangs,
    /// The service's own probe panicked.
    ProbePanicked,
}

type ProbeFuture = Pin<Box<dyn Future<Output = Finding>>>;

/// Why a probe failed: one sentence that is public, so it must not contain an address, a credential or a statement.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProbeError(pub String);

/// What a check calls.
#[derive(Clone)]
enum HealthSource {
    /// Pings the instrumented pools.
    Pools(Arc<dyn Fn() -> ProbeFuture + Send + Sync>),
    /// The service's own probe, which replaces the pings.
    Custom(Arc<dyn Fn() -> ProbeFuture + Send + Sync>),
}

/// The state behind `/livez`, `/readyz` and `/health`: the source of checks, and whether the server is draining.
#[derive(Clone)]
pub(crate) struct HealthChecks {
    probe: Arc<RwLock<HealthSource>>,
    draining: Arc<AtomicBool>,
}

impl HealthChecks {
    /// Checks that call `pools`, until [`check`](Self::check) replaces it.
    pub(crate) fn new<F, Fut>(pools: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Finding> + 'static,
    {
        let probe = HealthSource::Pools(Arc::new(move || Box::pin(pools())));
        Self {
            probe: Arc::new(RwLock::new(probe)),
            draining: Arc::default(),
        }
    }

    /// Calls `probe` for each check from now on.
    pub(crate) fn check<F, Fut>(&self, probe: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ProbeError>> + 'static,
    {
        let probe = HealthSource::Custom(Arc::new(move || {
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

    /// Makes `/readyz` answer 503 from now on: the server is about to stop and wants no new traffic.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    async fn check_database(&self) -> Finding {
        let probe = (self.probe.read().unwrap_or_else(PoisonError::into_inner)).clone();
        let (HealthSource::Pools(check) | HealthSource::Custom(check)) = &probe;
        let finding = tokio::time::timeout(PROBE_TIMEOUT, caught(&**check));
        match (finding.await, &probe) {
            (Ok(finding), _) => finding,
            (Err(_), HealthSource::Custom(_)) => Finding::ProbeHangs,
            (Err(_), HealthSource::Pools(_)) => {
                let seconds = PROBE_TIMEOUT.as_secs_f64();
                let detail = format!("the database did not answer within {seconds} s");
                Finding::Unreachable(ProbeError(detail))
            }
        }
    }
}

/// Returns the finding of a probe. If the probe panics, that is the finding.
async fn caught(check: &(dyn Fn() -> ProbeFuture + Send + Sync)) -> Finding {
    let mut running = None;
    poll_fn(|context| {
        let polled = AssertUnwindSafe(|| running.get_or_insert_with(check).as_mut().poll(context));
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

impl std::fmt::Debug for HealthChecks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HealthChecks")
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

/// `GET /livez`: the process answers. Does not check the database: a restart would not repair that.
pub(crate) async fn get_livez() -> HttpResponse {
    Report::OK.respond()
}

/// `GET /readyz`: whether the instance should receive requests. A load balancer takes it out at 503.
pub(crate) async fn get_readyz(health: web::Data<HealthChecks>) -> HttpResponse {
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

/// `GET /health`: whether the database can be reached, also during a shutdown.
pub(crate) async fn get_health(health: web::Data<HealthChecks>) -> HttpResponse {
    Report::of(health.check_database().await).respond()
}
