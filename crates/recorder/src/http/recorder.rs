//! What all workers record requests into, and the settings of recording. Each worker's own part is in `worker`; the life
//! of one request is in `record`.

use std::{
    cell::Cell,
    collections::HashSet,
    fmt, ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    context::RequestContext,
    http::{
        insight::{
            causes::FailureGroups,
            kept::{KEPT_REQUESTS, KeptRequests},
            notable::NotableRequests,
        },
        loop_watch::{LoopWatch, STALL_THRESHOLD},
        routes::LearntRoutes,
        series::{
            families::{HttpFamilies, OptionalFamilies},
            renaming::Rename,
        },
    },
    in_flight::InFlightRequests,
    log_limit::LogLimit,
    memory::DEFAULT_ANSWER_MEMORY,
    ops_endpoints::OpsEndpoints,
    repetition::{Attributed, RanStatements, RepetitionDetector, RepetitionKinds},
    thread_work,
};

thread_local! {
    /// The recorder whose request the thread works for now. By this, a middleware within another one of the same
    /// monitoring knows that the request is recorded already.
    pub(super) static SERVED_FOR: Cell<usize> = const { Cell::new(NOBODY) };
}

/// The id of no recorder.
pub(super) const NOBODY: usize = 0;

/// The settings of recording requests. The builder of the monitoring sets them.
#[derive(Clone)]
pub struct RecordingSettings {
    /// Which of the optional families are recorded.
    pub families: OptionalFamilies,
    /// Renames endpoints.
    pub rename: Option<Rename>,
    /// Patterns of endpoints that are not recorded; `*` for all.
    pub exclude: Vec<String>,
    /// Patterns of endpoints of the service that are for operators as well.
    pub ops_endpoints: Vec<String>,
    /// Whether answers have the `Server-Timing` header.
    pub server_timing: bool,
    /// How long one poll of a request may last before it counts as a stall of its worker's event loop.
    pub stall_threshold: Duration,
    /// How many requests are kept with their timelines; 0 keeps none.
    pub keep_requests: usize,
    /// The budget for all bodies that wait for their clients, in bytes.
    pub answer_memory: usize,
}

impl Default for RecordingSettings {
    fn default() -> Self {
        Self {
            families: OptionalFamilies::default(),
            rename: None,
            exclude: Vec::new(),
            ops_endpoints: Vec::new(),
            server_timing: false,
            stall_threshold: STALL_THRESHOLD,
            keep_requests: KEPT_REQUESTS,
            answer_memory: DEFAULT_ANSWER_MEMORY,
        }
    }
}

impl fmt::Debug for RecordingSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordingSettings")
            .field("families", &self.families)
            .field("exclude", &self.exclude)
            .finish_non_exhaustive()
    }
}

/// What all workers record into, and which endpoints they skip.
#[derive(Debug)]
pub struct RequestRecorder {
    pub(super) families: HttpFamilies,
    pub(super) learnt_routes: LearntRoutes,
    exclude: HashSet<String>,
    excludes_all: bool,
    /// Whether a middleware within another one was logged.
    is_nesting_known: AtomicBool,
    /// Limits the log lines of panics: a client that knows how to cause one can repeat it.
    pub(super) panic_lines: LogLimit,
    pub(super) server_timing: bool,
    pub(super) notable: NotableRequests,
    pub(super) kept: KeptRequests,
    pub(super) failures: FailureGroups,
    repetitions: Option<Arc<RepetitionDetector>>,
    pub(super) in_flight: InFlightRequests,
    pub(super) loop_watch: LoopWatch,
}

impl RequestRecorder {
    /// Returns a recorder for `families`. `repetitions` attributes the statements of a service with a database. Requests of
    /// `ops_endpoints` are never notable.
    pub fn new(
        families: HttpFamilies,
        repetitions: Option<Arc<RepetitionDetector>>,
        ops_endpoints: OpsEndpoints,
        settings: RecordingSettings,
    ) -> Self {
        if families.allocated.is_some() {
            thread_work::count_allocations();
        }
        Self {
            families,
            learnt_routes: LearntRoutes::default(),
            excludes_all: settings.exclude.iter().any(|endpoint| endpoint == "*"),
            exclude: settings.exclude.into_iter().collect(),
            is_nesting_known: AtomicBool::new(false),
            panic_lines: LogLimit::new(),
            server_timing: settings.server_timing,
            notable: NotableRequests::new(ops_endpoints.clone()),
            kept: KeptRequests::new(settings.keep_requests, ops_endpoints.clone()),
            failures: FailureGroups::new(ops_endpoints),
            repetitions,
            in_flight: InFlightRequests::default(),
            loop_watch: LoopWatch::new(settings.stall_threshold),
        }
    }

    /// Identifies this recorder among all that exist.
    #[inline]
    pub(super) fn id(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Whether no requests are recorded at all.
    #[inline]
    pub(super) fn excludes_all(&self) -> bool {
        self.excludes_all
    }

    /// Whether any endpoint is excluded.
    #[inline]
    pub(super) fn excludes_any(&self) -> bool {
        !self.exclude.is_empty()
    }

    /// Whether the thread works for a request that this recorder records.
    pub fn is_recording(&self) -> bool {
        !self.excludes_all && SERVED_FOR.get() == self.id()
    }

    /// Whether requests of the endpoint with this pattern are excluded.
    pub fn excludes(&self, pattern: &str) -> bool {
        self.excludes_all || self.exclude.contains(pattern)
    }

    /// Logs, once, that the middleware is within another one of the same monitoring.
    #[cold]
    pub(super) fn warn_of_nesting(&self) {
        if !self.is_nesting_known.swap(true, Relaxed) {
            tracing::warn!(
                "the monitoring middleware is wrapped twice around a part of the application: \
                 each request is recorded once, by the outer one; remove the inner one"
            );
        }
    }

    /// The families of requests.
    pub fn families(&self) -> &HttpFamilies {
        &self.families
    }

    /// The requests in flight.
    pub fn in_flight(&self) -> &InFlightRequests {
        &self.in_flight
    }

    /// How long one poll of a request may last before it counts as a stall.
    pub fn stall_threshold(&self) -> Duration {
        self.loop_watch.stall_threshold()
    }

    /// Starts the thread that watches the event loops, at the first call.
    pub(super) fn watch_loops(self: &Arc<Self>) {
        self.loop_watch.start(Arc::downgrade(self));
    }

    /// The notable requests.
    pub fn notable(&self) -> &NotableRequests {
        &self.notable
    }

    /// The requests that are kept with their timelines.
    pub fn kept(&self) -> &KeptRequests {
        &self.kept
    }

    /// The failed requests by endpoint and cause.
    pub fn failures(&self) -> &FailureGroups {
        &self.failures
    }

    /// Whether a request is suspected of an N+1 loop by the queries that have ended.
    #[cold]
    pub(super) fn suspects(&self, context: &RequestContext) -> bool {
        let detector = self.repetitions.as_ref();
        detector.is_some_and(|detector| detector.suspects(context))
    }

    /// Counts a request by its kinds of repetition. Returns whether it is suspected of a loop.
    #[cold]
    fn count_repetitions(
        &self,
        method: &'static str,
        endpoint: &str,
        kinds: RepetitionKinds,
    ) -> bool {
        for kind in kinds.iter() {
            self.families.count_repetition(method, endpoint, kind);
        }
        if kinds.has_loop() {
            self.families.count_n_plus_one(method, endpoint);
        }
        kinds.has_loop()
    }

    /// Reports the statements that a request ran, if they are new to its endpoint. Counts the request if it is suspected of
    /// an N+1 loop, and returns whether it is.
    pub(super) fn attribute(
        &self,
        method: &'static str,
        endpoint: &str,
        context: &RequestContext,
        ran: &RanStatements,
        log_span: Option<&tracing::Span>,
    ) -> bool {
        let Some(detector) = &self.repetitions else {
            return false;
        };
        let _entered = log_span.map(tracing::Span::enter);
        let kinds = detector.attribute(context, Attributed { method, endpoint }, ran);
        !kinds.is_empty() && self.count_repetitions(method, endpoint, kinds)
    }
}
