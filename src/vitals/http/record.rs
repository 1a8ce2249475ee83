//! The record of one request: opened when its head has been parsed, settled exactly once, whatever happens to it.
//!
//! A record is a value that moves with the request, from the middleware's future into the response's body. Settling
//! happens at the end of the body, or when the record is dropped, so that no path out of a request can forget it.
//! How the record travels is the business of `middleware`, `body` and `failure`; here stands what it counts.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashSet,
    num::NonZeroU32,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use actix_web::{
    body::BodySize,
    dev::{ResourceMap, ServiceRequest, Url},
    http::{
        StatusCode, Uri,
        header::{HeaderMap, HeaderName, HeaderValue},
        uri::PathAndQuery,
    },
};

use super::{
    families::Families,
    labels::{UNMATCHED, client_closed_request, method_label},
    notable::{NotableRequest, NotableRequests},
    repetition::Repetition,
    series::{Labels, Series, SeriesCache, Timing},
    server_timing,
    trace::TraceParent,
};
use crate::{
    registry::{Gauge, SpanContext},
    vitals::{
        context::{self, RequestContext, Shapes},
        naming::Naming,
    },
};

/// The response header that carries a trace's id on.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
    families: Families,
    statements: Option<Arc<dyn Shapes>>,
    exclude: HashSet<String>,
    repetition: Repetition,
    server_timing: bool,
    notable: NotableRequests,
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
            statements,
            exclude: settings.exclude.into_iter().collect(),
            repetition: Repetition::new(settings.n_plus_one),
            server_timing: settings.server_timing,
            notable: settings.notable,
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
}

impl Recorder {
    /// Observes a request's tally of the database, tells the statements who ran them if that `is_new`, and counts the
    /// request if it ran one of them suspiciously often.
    fn attribute(
        &self,
        method: &'static str,
        endpoint: &str,
        timing: &Timing,
        context: &RequestContext,
        is_new: impl Fn(NonZeroU32) -> bool,
        log_span: Option<&tracing::Span>,
    ) {
        let _entered = log_span.map(tracing::Span::enter);
        if let Timing::Answer { database, .. } = timing {
            database.observe(context.queries(), context.database_time(), context.span());
        }
        let mut suspected = false;
        for (shape, runs) in context.shapes() {
            let Some(statements) = &self.statements else {
                return;
            };
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

/// One worker thread's side of the recorder: its series cache, and the application that it serves.
#[derive(Debug)]
pub(super) struct Worker {
    recorder: Arc<Recorder>,
    in_progress: InProgress,
    series: SeriesCache,
    application: OnceCell<Application>,
}

/// What the first request tells of the application.
#[derive(Debug)]
struct Application {
    resources: ResourceMap,
    /// An application serves one listener: all its requests come by one scheme.
    scheme: &'static str,
}

/// The gauges of the requests being served.
#[derive(Debug)]
enum InProgress {
    All(Arc<Gauge>),
    /// Those that were needed so far, by method.
    ByMethod(RefCell<Vec<(&'static str, Arc<Gauge>)>>),
}

impl InProgress {
    fn new(families: &Families) -> Self {
        match families.naming {
            Naming::Vitals => Self::All(families.in_progress("", "")),
            Naming::OpenTelemetry => Self::ByMethod(RefCell::default()),
        }
    }
}

impl Worker {
    pub(super) fn new(recorder: Arc<Recorder>) -> Self {
        Self {
            in_progress: InProgress::new(&recorder.families),
            recorder,
            series: SeriesCache::default(),
            application: OnceCell::new(),
        }
    }

    /// One request more, or less, is in progress.
    fn count_in_progress(&self, method: &'static str, change: i64) {
        match &self.in_progress {
            InProgress::All(gauge) => gauge.add(change),
            InProgress::ByMethod(gauges) => {
                let mut gauges = gauges.borrow_mut();
                if let Some((_, gauge)) = gauges.iter().find(|(known, _)| *known == method) {
                    return gauge.add(change);
                }
                let gauge = self.recorder.families.in_progress(method, self.scheme());
                gauge.add(change);
                gauges.push((method, gauge));
            }
        }
    }

    fn scheme(&self) -> &'static str {
        self.application.get().map_or("http", |known| known.scheme)
    }

    /// Whether the request's endpoint is left out. Only then is the route looked up ahead of routing.
    pub(super) fn excludes(&self, request: &ServiceRequest) -> bool {
        let exclude = &self.recorder.exclude;
        !exclude.is_empty()
            && (exclude.contains("*")
                || match request.match_pattern() {
                    Some(pattern) if pattern.is_empty() => exclude.contains("/"),
                    Some(pattern) => exclude.contains(&pattern),
                    None => exclude.contains(UNMATCHED),
                })
    }

    /// The pattern of the endpoint that a path leads to, found without the request: its client or its handler is gone.
    fn pattern_of(&self, path: &str) -> String {
        self.application
            .get()
            .and_then(|application| application.resources.match_pattern(path))
            .unwrap_or_else(|| UNMATCHED.to_owned())
    }
}

/// What is known of a request's answer.
#[derive(Debug)]
enum Phase {
    /// No head yet.
    Pending,
    /// The head is on its way, the body follows.
    Answering {
        series: Rc<Series>,
        body: BodyProgress,
    },
    /// Counted.
    Settled,
}

/// How far a body has come.
#[derive(Debug)]
struct BodyProgress {
    size: BodySize,
    /// The protocol sends none of it: an answer to HEAD, or a status that has no body (RFC 9110, section 6.4.1).
    suppressed: bool,
    polled: bool,
    bytes: u64,
}

impl BodyProgress {
    fn is_whole(&self) -> bool {
        match self.size {
            BodySize::None => true,
            BodySize::Sized(size) => self.suppressed || self.bytes >= size,
            BodySize::Stream => self.suppressed,
        }
    }
}

/// One request, from its head to the last byte of its answer.
#[derive(Debug)]
pub(super) struct Record {
    worker: Rc<Worker>,
    started: Instant,
    method: &'static str,
    /// For the endpoint of a request whose client or handler is gone.
    path: Option<PathAndQuery>,
    request_bytes: Option<Rc<Cell<u64>>>,
    /// Boxed, since a record moves often and few requests are traced.
    trace: Option<Box<Trace>>,
    context: Option<Arc<RequestContext>>,
    phase: Phase,
}

/// The trace that a request belongs to.
#[derive(Debug)]
struct Trace {
    parent: TraceParent,
    /// Makes the request's log lines bear the trace's id. Of the highest level, so that the log's filter keeps it as long
    /// as it keeps anything.
    log_span: tracing::Span,
}

impl Trace {
    fn boxed(parent: TraceParent) -> Box<Self> {
        let trace_id = format!("{:032x}", parent.span.trace_id);
        Box::new(Self {
            parent,
            log_span: tracing::error_span!("request", trace_id),
        })
    }

    /// The span that observations point at, if it may have been recorded.
    fn sampled_span(&self) -> Option<SpanContext> {
        self.parent.sampled.then_some(self.parent.span)
    }
}

impl Record {
    /// Opens the record of a request that has just been parsed.
    pub(super) fn open(worker: &Rc<Worker>, request: &ServiceRequest) -> Self {
        let started = Instant::now();
        let method = method_label(request.method());
        worker.application.get_or_init(|| Application {
            resources: request.resource_map().clone(),
            scheme: if request.app_config().secure() {
                "https"
            } else {
                "http"
            },
        });
        worker.count_in_progress(method, 1);
        let trace = TraceParent::of(request.headers()).map(Trace::boxed);
        let span = trace.as_deref().and_then(Trace::sampled_span);
        Self {
            worker: Rc::clone(worker),
            started,
            method,
            path: request.uri().path_and_query().cloned(),
            request_bytes: None,
            trace,
            context: span.map(|span| Arc::new(RequestContext::of_span(span))),
            phase: Phase::Pending,
        }
    }

    /// Counts the bytes of the request's body through a cell that its payload adds to.
    pub(super) fn count_request_bytes(&mut self) -> Rc<Cell<u64>> {
        let bytes = Rc::new(Cell::new(0));
        self.request_bytes = Some(Rc::clone(&bytes));
        bytes
    }

    /// Runs `f` as part of this request: it finds the request's context, and its log lines bear the trace's id.
    pub(super) fn within<T>(&mut self, f: impl FnOnce() -> T) -> T {
        let _entered = self.trace.as_ref().map(|trace| trace.log_span.enter());
        context::within(&mut self.context, f)
    }

    /// Tells the client which trace its request belonged to, in `x-request-id`, unless the handler has set one.
    fn name_trace(&self, headers: &mut HeaderMap) {
        let Some(trace) = &self.trace else { return };
        let id = format!("{:032x}", trace.parent.span.trace_id);
        if let (false, Ok(id)) = (headers.contains_key(&REQUEST_ID), HeaderValue::try_from(id)) {
            headers.insert(REQUEST_ID.clone(), id);
        }
    }

    /// What the head of the answer says of its request: the trace it belongs to and, if wanted, where its time went.
    pub(super) fn complete_head(&self, headers: &mut HeaderMap) {
        self.name_trace(headers);
        if self.worker.recorder.server_timing {
            server_timing::add(headers, self.context.as_deref(), self.started.elapsed());
        }
    }

    /// The head of the answer is known. `pattern` is found from the path where nobody knows better.
    ///
    /// A stream is counted now, since it may never end; its duration is recorded when it does.
    pub(super) fn answer(
        &mut self,
        pattern: Option<&str>,
        status: StatusCode,
        size: BodySize,
        is_stream: bool,
    ) {
        let series = match pattern {
            Some(pattern) => self.resolve(pattern, status, is_stream),
            None => self.resolve(&self.pattern_by_path(), status, is_stream),
        };
        if let Timing::Stream { active, .. } = &series.timing {
            series.requests.inc();
            active.inc();
        }
        let suppressed = self.method == "HEAD"
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let body = BodyProgress {
            size,
            suppressed,
            polled: false,
            bytes: 0,
        };
        let is_whole = body.is_whole();
        self.phase = Phase::Answering { series, body };
        // Nothing follows the head.
        if is_whole {
            self.complete();
        }
    }

    /// `bytes` more of the body went to the connection. Settles the record if they were the last.
    ///
    /// A body of known size is over with its last byte: waiting for the stream to say so as well would let the
    /// client see the whole answer, and ask for the count, before it is counted.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Phase::Answering { body, .. } = &mut self.phase {
            body.polled = true;
            body.bytes += bytes as u64;
            if body.is_whole() {
                self.complete();
            }
        }
    }

    /// The body was asked for and had nothing to give yet.
    pub(super) fn polled(&mut self) {
        if let Phase::Answering { body, .. } = &mut self.phase {
            body.polled = true;
        }
    }

    /// The answer is whole.
    pub(super) fn complete(&mut self) {
        self.settle(None);
    }

    /// The body failed: the status stands, the answer is not whole.
    pub(super) fn fail(&mut self) {
        self.settle(Some("body"));
    }

    /// Counts a caught panic, and says in the log what it was.
    pub(super) fn panicked(&self, payload: &(dyn std::any::Any + Send)) {
        let _entered = self.trace.as_ref().map(|trace| trace.log_span.enter());
        let endpoint = match &self.phase {
            Phase::Answering { series, .. } => Arc::clone(&series.endpoint),
            Phase::Pending | Phase::Settled => {
                self.families().renaming.name(&self.pattern_by_path())
            }
        };
        self.families().count_panic(&endpoint);
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!(
            endpoint = &*endpoint,
            method = self.method,
            "panic while serving a request: {message}"
        );
    }

    /// The pattern of the endpoint that the request's path leads to.
    fn pattern_by_path(&self) -> String {
        // As routing saw it: percent-encodings of what needs none are undone.
        let uri = self.path.clone().map(Uri::from).unwrap_or_default();
        self.worker.pattern_of(Url::new(uri).path())
    }

    fn families(&self) -> &Families {
        &self.worker.recorder.families
    }

    fn span(&self) -> Option<SpanContext> {
        self.trace.as_deref().and_then(Trace::sampled_span)
    }

    fn resolve(&self, pattern: &str, status: StatusCode, is_stream: bool) -> Rc<Series> {
        let labels = Labels {
            method: self.method,
            pattern,
            status,
            is_stream,
        };
        let worker = &self.worker;
        (worker.series).resolve(self.families(), worker.scheme(), labels)
    }

    /// Counts an answered request, once.
    fn settle(&mut self, aborted: Option<&str>) {
        let Phase::Answering { series, body } = std::mem::replace(&mut self.phase, Phase::Settled)
        else {
            return;
        };
        let elapsed = self.started.elapsed().as_secs_f64();
        match &series.timing {
            Timing::Answer {
                latency, database, ..
            } => {
                series.requests.inc();
                latency.observe_with(elapsed, self.span().as_ref());
                if self.context.is_none() {
                    database.observe(0, Duration::ZERO, self.span());
                }
                let notable = &self.worker.recorder.notable;
                if notable.wants(series.status, elapsed) {
                    let context = self.context.as_deref();
                    notable.keep(NotableRequest {
                        at: SystemTime::now(),
                        method: self.method,
                        endpoint: Arc::clone(&series.endpoint),
                        status: series.status.as_u16(),
                        seconds: elapsed,
                        database_seconds: context
                            .map_or(0.0, |context| context.database_time().as_secs_f64()),
                        queries: context.map_or(0, RequestContext::queries),
                        trace_id: (self.trace.as_ref()).map(|trace| trace.parent.span.trace_id),
                    });
                }
            }
            Timing::Stream { active, duration } => {
                active.dec();
                duration.observe_with(elapsed, self.span().as_ref());
            }
        }
        self.observe_sizes(&series, body.bytes);
        if let Some(context) = self.context.take() {
            self.attribute(&series, context);
        }
        if let Some(phase) = aborted {
            self.count_abort(&series.endpoint, phase);
        }
    }

    /// Observes what the request has asked of the database, when nobody works for it any more.
    ///
    /// That is now, as a rule. Where a client has left, or the handler has given up waiting, a query may still run.
    fn attribute(&self, series: &Rc<Series>, context: Arc<RequestContext>) {
        let recorder = &self.worker.recorder;
        let log_span = self.trace.as_ref().map(|trace| &trace.log_span);
        if Arc::strong_count(&context) == 1 {
            let is_new = |shape| series.statements.is_first(shape);
            recorder.attribute(
                self.method,
                &series.endpoint,
                &series.timing,
                &context,
                is_new,
                log_span,
            );
            return;
        }
        let (recorder, method, log_span) = (Arc::clone(recorder), self.method, log_span.cloned());
        let (endpoint, timing) = (series.endpoint.clone(), series.timing.clone());
        context.when_done(move |context| {
            recorder.attribute(
                method,
                &endpoint,
                &timing,
                context,
                |_| true,
                log_span.as_ref(),
            );
        });
    }

    /// Counts a request whose client left before the head of an answer was sent.
    fn abandon(&mut self, pattern: &str) {
        let series = self.resolve(pattern, client_closed_request(), false);
        let body = BodyProgress {
            size: BodySize::None,
            suppressed: true,
            polled: false,
            bytes: 0,
        };
        self.phase = Phase::Answering { series, body };
        self.settle(Some("before_head"));
    }

    fn observe_sizes(&self, series: &Series, response_bytes: u64) {
        let request_bytes = self.request_bytes.as_ref().map_or(0, |bytes| bytes.get());
        series.request_size.observe(request_bytes as f64);
        series.response_size.observe(response_bytes as f64);
    }

    fn count_abort(&self, endpoint: &str, phase: &str) {
        self.families().count_abort(self.method, endpoint, phase);
    }
}

/// A record that is dropped unsettled tells how its request ended.
impl Drop for Record {
    fn drop(&mut self) {
        match &self.phase {
            Phase::Settled => {}
            Phase::Pending => {
                let pattern = self.pattern_by_path();
                self.abandon(&pattern);
            }
            // A stream has no end of its own: its client's leaving is one.
            Phase::Answering { series, .. } if series.is_stream() => self.complete(),
            // Nobody ever asked for the body: the head did not go out either (HTTP/2, a stream that was reset).
            Phase::Answering { body, series } if !body.polled => {
                let series = Rc::clone(series);
                self.abandon(&series.pattern);
            }
            Phase::Answering { .. } => self.fail(),
        }
        self.worker.count_in_progress(self.method, -1);
    }
}
