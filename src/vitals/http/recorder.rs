//! The recorder: what all workers record requests into, how they are to do it, and what is said of a request's queries.
//! What a worker has for itself is in `worker`, what happens to one request in `record` and `answer`.

use std::{collections::HashSet, num::NonZeroU32, sync::Arc};

use super::{families::Families, notable::NotableRequests, repetition::Repetition};
use crate::vitals::context::{RequestContext, Shapes};

/// How requests are recorded.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Endpoints that are left out (`*` for all).
    pub(crate) exclude: Vec<String>,
    /// A request that runs one statement at least so often is suspected of a loop; with 0 none is.
    pub(crate) n_plus_one: u32,
    /// Whether answers bear the `Server-Timing` header.
    pub(crate) server_timing: bool,
    /// Takes the requests that are worth a look.
    pub(crate) notable: NotableRequests,
}

/// What every worker records into, and what it leaves out.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(super) families: Families,
    pub(super) exclude: HashSet<String>,
    pub(super) server_timing: bool,
    pub(super) notable: NotableRequests,
    statements: Option<Arc<dyn Shapes>>,
    repetition: Repetition,
}

impl Recorder {
    /// Records into `families`, and tells `statements` by whom they were run.
    pub(crate) fn new(
        families: Families,
        statements: Option<Arc<dyn Shapes>>,
        settings: Settings,
    ) -> Self {
        Self {
            families,
            exclude: settings.exclude.into_iter().collect(),
            server_timing: settings.server_timing,
            notable: settings.notable,
            statements,
            repetition: Repetition::new(settings.n_plus_one),
        }
    }

    /// What is counted of requests.
    #[cfg(feature = "dashboard")]
    pub(crate) fn families(&self) -> &Families {
        &self.families
    }

    /// The requests that are worth a look.
    pub(crate) fn notable(&self) -> &NotableRequests {
        &self.notable
    }

    /// Tells the statements that a request has run who ran them, if that `is_new`, and counts the request if it ran one
    /// of them suspiciously often.
    pub(super) fn attribute(
        &self,
        method: &'static str,
        endpoint: &str,
        context: &RequestContext,
        is_new: impl Fn(NonZeroU32) -> bool,
        log_span: Option<&tracing::Span>,
    ) {
        let Some(statements) = &self.statements else {
            return;
        };
        let _entered = log_span.map(tracing::Span::enter);
        let mut suspected = false;
        for (shape, runs) in context.shapes() {
            if is_new(shape) {
                statements.ran_by(shape, method, endpoint);
            }
            if self.repetition.is_suspicious(runs) {
                suspected = true;
                if let Some(statement) = statements.text(shape) {
                    self.repetition.tell(method, endpoint, &statement, runs);
                }
            }
        }
        if suspected {
            self.families.count_n_plus_one(method, endpoint);
        }
    }
}
