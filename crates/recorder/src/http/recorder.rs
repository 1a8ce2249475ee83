//! The recorder: what all workers record requests into, how they are to do it, and what is said of a request's queries.
//! What a worker has for itself is in `worker`, what happens to one request in `record` and `answer`.

use std::{
    cell::Cell,
    collections::HashSet,
    num::NonZeroU32,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::http::{insight::notable::NotableRequests, series::families::HttpFamilies};
use crate::{
    context::{RequestContext, StatementShapes},
    log_limit::LogLimit,
    repetition::NPlusOneDetector,
};

thread_local! {
    /// The recorder for which the thread serves a request now: by this a middleware within another of the same
    /// monitoring knows that the request is recorded already.
    pub(super) static SERVED_FOR: Cell<usize> = const { Cell::new(NOBODY) };
}

/// The id of no recorder.
pub(super) const NOBODY: usize = 0;

/// How requests are recorded.
#[derive(Debug)]
pub struct RecordingSettings {
    /// Endpoints that are left out (`*` for all).
    pub exclude: Vec<String>,
    /// A request that runs one statement at least so often is suspected of a loop; with 0 none is.
    pub n_plus_one: u32,
    /// Whether answers bear the `Server-Timing` header.
    pub server_timing: bool,
    /// Takes the requests that are worth a look.
    pub notable: NotableRequests,
}

/// What every worker records into, and what it leaves out.
#[derive(Debug)]
pub struct RequestRecorder {
    pub(super) families: HttpFamilies,
    exclude: HashSet<String>,
    excludes_all: bool,
    /// Whether the log has been warned of a middleware within another.
    is_nesting_known: AtomicBool,
    /// Limits what the log says of panics: a client that knows how to cause one can repeat it.
    pub(super) panic_lines: LogLimit,
    pub(super) server_timing: bool,
    pub(super) notable: NotableRequests,
    statements: Option<Arc<dyn StatementShapes>>,
    repetition: NPlusOneDetector,
}

impl RequestRecorder {
    /// Records into `families`, and tells `statements` by whom they were run.
    pub fn new(
        families: HttpFamilies,
        statements: Option<Arc<dyn StatementShapes>>,
        settings: RecordingSettings,
    ) -> Self {
        Self {
            families,
            excludes_all: settings.exclude.iter().any(|endpoint| endpoint == "*"),
            exclude: settings.exclude.into_iter().collect(),
            is_nesting_known: AtomicBool::new(false),
            panic_lines: LogLimit::new(),
            server_timing: settings.server_timing,
            notable: settings.notable,
            statements,
            repetition: NPlusOneDetector::new(settings.n_plus_one),
        }
    }

    /// Identifies this recorder among others.
    #[inline]
    pub(super) fn id(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Whether no requests are recorded at all.
    #[inline]
    pub(super) fn excludes_all(&self) -> bool {
        self.excludes_all
    }

    /// Whether there are endpoints whose requests are left out.
    #[inline]
    pub(super) fn excludes_any(&self) -> bool {
        !self.exclude.is_empty()
    }

    /// Whether the thread serves a request that this records now.
    pub fn is_recording(&self) -> bool {
        !self.excludes_all && SERVED_FOR.get() == self.id()
    }

    /// Whether requests of the endpoint with this pattern are left out.
    pub fn excludes(&self, pattern: &str) -> bool {
        self.excludes_all || self.exclude.contains(pattern)
    }

    /// Says in the log, once, that the middleware is within another of the same monitoring.
    #[cold]
    pub(super) fn warn_of_nesting(&self) {
        if !self.is_nesting_known.swap(true, Relaxed) {
            tracing::warn!(
                "the monitoring middleware is wrapped around a part of an application that it is wrapped around already: \
                 each request is recorded once, by the outer one; remove the inner one"
            );
        }
    }

    /// What is counted of requests.
    pub fn families(&self) -> &HttpFamilies {
        &self.families
    }

    /// The requests that are worth a look.
    pub fn notable(&self) -> &NotableRequests {
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
        let suspected =
            (self.repetition).attribute(&**statements, context, method, endpoint, is_new);
        if suspected {
            self.families.count_n_plus_one(method, endpoint);
        }
    }
}
