//! The memory that holds the record of one request, from its head to its end.
//!
//! A record moves often: from the middleware to its future, to the answer's body, to the connection. The slot stays where
//! it is, and only a pointer moves. Slots are used again, so that requests allocate none in the steady state.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    ptr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_web::{
    dev::ServiceRequest,
    http::{Version, header::HeaderMap},
    web::Bytes,
};
use vitals_registry::SpanContext;

use crate::{
    clock::{self, Moment},
    context::{self, RequestContext},
    http::{
        endpoint_guess::PathOutline,
        insight::{
            causes::FailureCause,
            server_timing,
            trace::{Trace, TraceParent},
        },
        record::polls::Polls,
        series::{
            cache::{RequestEnding, RequestSeries, RouteSeries},
            labels::method_label,
        },
        worker::{Sent, WorkerRecorder},
    },
    in_flight::{RequestState, SlotHandle},
    panics, runtime,
};

/// The capacity of a path's buffer, in bytes, that is kept from one request to the next.
const KEPT_PATH: usize = 1024;

/// The most free slots that a worker keeps. More requests at once allocate their slots.
const MOST_FREE_SLOTS: usize = 128;

/// What is known of a request.
#[derive(Debug)]
pub(in crate::http) struct RequestSlot {
    pub(in crate::http) worker: Rc<WorkerRecorder>,
    /// The free list that the slot returns to; none while it is free.
    slots: Option<Rc<RequestSlots>>,
    pub(in crate::http) method: &'static str,
    pub(in crate::http) started: Moment,
    /// None while the thread works for the request.
    pub(in crate::http) context: Option<Arc<RequestContext>>,
    /// The series of the answer, once its head is known.
    pub(in crate::http) series: Option<Rc<RequestSeries>>,
    /// Boxed, because few requests are traced.
    pub(in crate::http) trace: Option<Box<Trace>>,
    /// Shared with the payload that the service reads.
    request_body: Rc<RequestBody>,
    /// Whether the request has a payload. Without one, its body is not looked at.
    has_payload: bool,
    /// The path as it arrived. The endpoint of a request without an answer is found by it.
    path: String,
    pub(in crate::http) is_http_2: bool,
    /// Whether the in-progress gauge counts the request.
    is_shown: bool,
    pub(in crate::http) delivery: Delivery,
    /// The method that the slot of the request in flight has.
    listed_method: &'static str,
    outline: PathOutline,
    /// The number of the endpoint that is listed.
    endpoint_number: u32,
    poll: LoopPoll,
    pub(in crate::http) polls: Polls,
    /// Why the request failed, as far as that is known already.
    cause: RefCell<Option<Box<FailureCause>>>,
}

/// The present poll of a request, and the sum of the earlier ones.
#[derive(Debug)]
struct LoopPoll {
    /// When the present poll began. It goes on over a pause.
    since: Option<Moment>,
    /// The pause of the present poll, if it is paused.
    pause: Option<Pause>,
    /// What the request awaits in the pause.
    paused_for: RequestState,
    /// The sum of the earlier polls, in nanoseconds.
    total: u64,
}

/// A pause of a poll, which is most likely no pause at all.
#[derive(Clone, Copy, Debug)]
struct Pause {
    /// The tick of the coarse clock at its beginning.
    tick: Moment,
    /// When it began. If the poll has seen no tick, it is shorter than one, and this is its own beginning.
    began: Moment,
}

impl LoopPoll {
    #[inline]
    fn begin(since: Option<Moment>) -> Self {
        Self {
            since,
            pause: None,
            paused_for: RequestState::Awaiting,
            total: 0,
        }
    }
}

/// The progress of the answer.
#[derive(Debug, Default)]
pub(in crate::http) struct Delivery {
    /// Bytes of the body that were handed to the connection.
    pub(in crate::http) bytes: u64,
    /// The number of bytes with which the answer is complete.
    pub(in crate::http) whole_at: u64,
    /// The size in the head; 0 without one.
    pub(in crate::http) promised: u64,
    /// The part of a large chunk that was not handed on yet.
    pub(in crate::http) rest: Option<Bytes>,
    /// Whether the connection has asked for the body.
    pub(in crate::http) is_polled: bool,
    pub(in crate::http) is_settled: bool,
    pub(in crate::http) ending: RequestEnding,
}

/// What is known of a request's body.
#[derive(Debug, Default)]
pub(in crate::http) struct RequestBody {
    /// Bytes that the service has read.
    pub(in crate::http) bytes: Cell<u64>,
    /// Whether the client left before the body was complete.
    pub(in crate::http) is_cut: Cell<bool>,
}

impl Delivery {
    /// Prepares it for the next answer.
    #[inline]
    fn clear(&mut self) {
        if self.rest.is_some() {
            self.rest = None;
        }
        (self.bytes, self.whole_at, self.promised) = (0, 0, 0);
        (self.is_polled, self.is_settled) = (false, false);
        self.ending = RequestEnding::default();
    }
}

/// While it exists, its thread works for one request.
#[must_use = "the thread works for the request until this is dropped"]
pub(in crate::http) struct EnteredRequest<'a> {
    _context: context::Entered<'a>,
    /// Dropped last: what happens when the context is left belongs to the trace.
    _log_span: EnteredSpan<'a>,
}

/// The span of a traced request's log lines. Few requests have one, so what it does is apart from their path.
struct EnteredSpan<'a>(Option<tracing::span::Entered<'a>>);

impl<'a> EnteredSpan<'a> {
    #[cold]
    fn of(trace: &'a Trace) -> tracing::span::Entered<'a> {
        trace.log_span.enter()
    }

    #[cold]
    fn leave(entered: tracing::span::Entered<'a>) {
        drop(entered);
    }
}

impl Drop for EnteredSpan<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(entered) = self.0.take() {
            Self::leave(entered);
        }
    }
}

impl<'a> EnteredRequest<'a> {
    /// Lets this thread work for a request until what this returns is dropped: code finds the request's context, and log lines
    /// have the trace's id.
    ///
    /// The guard is made in the place where it stays. One that is moved is written in parts and read as a whole, for which the
    /// processor has to wait.
    #[inline]
    pub(in crate::http) fn within(parts: EnteredParts<'a>) -> Self {
        let (context, trace) = parts;
        let log_span = EnteredSpan(trace.map(EnteredSpan::of));
        Self {
            _context: context::enter(context),
            _log_span: log_span,
        }
    }
}

/// What a thread works in while it works for a request.
pub(in crate::http) type EnteredParts<'a> =
    (&'a mut Option<Arc<RequestContext>>, Option<&'a Trace>);

/// The free slots of one worker.
#[derive(Debug)]
pub(in crate::http) struct RequestSlots {
    pub(in crate::http) worker: Rc<WorkerRecorder>,
    #[allow(clippy::vec_box, reason = "a slot is handed on as a pointer")]
    free: RefCell<Vec<Box<RequestSlot>>>,
}

impl RequestSlots {
    pub(in crate::http) fn new(worker: WorkerRecorder) -> Self {
        Self {
            worker: Rc::new(worker),
            free: RefCell::default(),
        }
    }

    /// Returns a slot without anything of an earlier request.
    #[inline]
    fn take(&self) -> Box<RequestSlot> {
        let free = self.free.borrow_mut().pop();
        free.unwrap_or_else(|| Box::new(RequestSlot::new(Rc::clone(&self.worker))))
    }

    #[inline]
    fn put_back(&self, slot: Box<RequestSlot>) {
        let mut free = self.free.borrow_mut();
        if free.len() < MOST_FREE_SLOTS {
            free.push(slot);
        }
    }
}

impl RequestSlot {
    #[cold]
    fn new(worker: Rc<WorkerRecorder>) -> Self {
        Self {
            slots: None,
            method: "",
            started: clock::now(),
            context: Some(RequestContext::listed_in(worker.in_flight.take())),
            worker,
            series: None,
            trace: None,
            request_body: Rc::default(),
            has_payload: false,
            path: String::new(),
            is_http_2: false,
            is_shown: false,
            delivery: Delivery::default(),
            listed_method: "",
            outline: PathOutline::default(),
            endpoint_number: 0,
            poll: LoopPoll::begin(None),
            polls: Polls::new(clock::now()),
            cause: RefCell::default(),
        }
    }

    /// Takes a slot for a request that has just been parsed. The in-progress gauge counts it from now on if it `is_shown`.
    #[inline]
    pub(in crate::http) fn begin(
        slots: &Rc<RequestSlots>,
        request: &ServiceRequest,
        is_shown: bool,
    ) -> Box<Self> {
        let started = clock::now();
        let mut slot = slots.take();
        slot.started = started;
        slot.method = method_label(request.method());
        let path = request.match_info().as_str();
        slot.path.push_str(path);
        slot.outline = PathOutline::of(slot.method, path);
        slot.is_http_2 = request.version() == Version::HTTP_2;
        slot.worker.learn_application(request);
        slot.slots = Some(Rc::clone(slots));
        if let Some(parent) = TraceParent::of(request.headers()) {
            slot.trace = Some(Trace::boxed(parent));
        }
        if is_shown {
            slot.show();
        }
        if let (Some(span), Some(context)) = (slot.span(), &mut slot.context) {
            RequestContext::set_span(context, span);
        }
        slot.poll = LoopPoll::begin(Some(started));
        slot.polls.clear(started);
        slot
    }

    /// Ends the request, and returns the slot to its free list.
    #[inline]
    pub(in crate::http) fn end(mut self: Box<Self>) {
        self.series = None;
        self.path.clear();
        // Most requests have none of these.
        if self.trace.is_some()
            || self.cause.get_mut().is_some()
            || self.has_payload
            || self.path.capacity() > KEPT_PATH
        {
            self.clear_rare();
        }
        self.delivery.clear();
        if let Some(slots) = self.leave() {
            if let Some(context) = &mut self.context {
                RequestContext::recycle(context);
            }
            slots.put_back(self);
        }
    }

    #[inline(never)]
    fn clear_rare(&mut self) {
        self.trace = None;
        *self.cause.get_mut() = None;
        self.clear_request_body();
        self.path.shrink_to(KEPT_PATH);
    }

    /// Decrements the in-progress gauge, at most once in a request, and returns the free list this slot belongs to.
    #[inline]
    fn leave(&mut self) -> Option<Rc<RequestSlots>> {
        let slots = self.slots.take()?;
        if self.is_shown {
            self.is_shown = false;
            self.worker.leave(self.method);
            self.unlist();
        }
        Some(slots)
    }

    /// Counts the request in the in-progress gauge, at most once.
    #[inline]
    pub(in crate::http) fn show(&mut self) {
        if !self.is_shown {
            self.show_now();
        }
    }

    fn show_now(&mut self) {
        self.is_shown = true;
        self.worker.enter(self.method);
        self.list();
    }

    /// The slot in the list of requests in flight.
    #[inline]
    fn listed(&self) -> Option<&SlotHandle> {
        self.context.as_ref()?.in_flight()
    }

    /// Lists the request among those in flight.
    #[inline]
    fn list(&mut self) {
        runtime::rouse();
        if self.listed().is_none() && !self.take_listing() {
            return self.worker.in_flight.count_unlisted();
        }
        self.endpoint_number = (self.worker).guess(self.outline, self.sent(), self.started);
        let trace_id = self.trace.as_ref().map_or(0, |trace| trace.id());
        if !ptr::eq(self.listed_method, self.method) {
            self.list_method();
        }
        if let Some(listed) = self.listed() {
            listed.begin(self.endpoint_number, self.started, trace_id);
        }
    }

    /// Takes a slot in the list. Returns false if there are too many already.
    #[cold]
    fn take_listing(&mut self) -> bool {
        let (Some(context), Some(slot)) = (&mut self.context, self.worker.in_flight.take()) else {
            return false;
        };
        RequestContext::list_in(context, slot);
        true
    }

    #[cold]
    fn list_method(&mut self) {
        self.listed_method = self.method;
        if let Some(listed) = self.listed() {
            listed.set_method(self.method);
        }
    }

    #[inline]
    fn unlist(&mut self) {
        match self.listed() {
            Some(listed) => listed.end(),
            None => self.worker.in_flight.unlist(),
        }
    }

    /// Lists the request under the endpoint that has answered it.
    #[inline]
    pub(in crate::http) fn answered_by(&mut self, route: &RouteSeries) {
        if route.endpoint_number() != self.endpoint_number
            && let Some(listed) = self.listed()
        {
            let corrected = (self.worker).correct_guess(self.outline, self.sent(), route);
            listed.set_endpoint(corrected);
        }
    }

    /// Takes the context if code that works for the request still has it. The next such code gets another one.
    #[inline]
    pub(in crate::http) fn take_shared_context(&mut self) -> Option<Arc<RequestContext>> {
        let context = self.context.as_mut()?;
        RequestContext::is_shared(context).then(|| RequestContext::detach(context))
    }

    /// Notes that the request is polled. A pause without a tick in between goes on as one poll, which needs no clock.
    #[inline]
    pub(in crate::http) fn enter_loop(&mut self) {
        self.end_pause();
        let polls = &mut self.polls;
        let since = *self.poll.since.get_or_insert_with(|| {
            let now = clock::now();
            polls.begin(now);
            now
        });
        self.set_state(RequestState::Polled, since);
    }

    /// Notes that the poll has returned, and that the next one follows at once, as Actix has it.
    #[inline]
    pub(in crate::http) fn pause_loop(&mut self, state: RequestState) {
        if let Some(since) = self.poll.since {
            let tick = self.worker.recorder.loop_watch.tick();
            // A poll that has seen a tick may be long, so its end must be exact.
            let began = if tick > since { clock::now() } else { since };
            self.poll.pause = Some(Pause { tick, began });
            self.poll.paused_for = state;
            self.set_state(state, since);
        }
    }

    /// Notes that the poll has returned.
    pub(in crate::http) fn leave_loop(&mut self, state: RequestState) {
        let now = clock::now();
        self.end_poll(now);
        self.polls.then(state);
        self.set_state(state, now);
    }

    /// Notes that the poll of a stream has returned, with a chunk that its client must take, or without.
    pub(in crate::http) fn leave_stream(&mut self, has_chunk: bool) {
        self.leave_loop(RequestState::Streaming);
        if has_chunk {
            self.polls.then(RequestState::Sending);
        }
    }

    /// Ends the present poll for a request that ends at this moment, and returns the sum of its polls in nanoseconds.
    #[inline]
    pub(in crate::http) fn settle_loop(&mut self, ended: Moment) -> u64 {
        match self.take_pause() {
            Some(paused_at) => self.end_paused_poll(paused_at),
            None => self.end_poll(ended),
        }
        self.polls.finish(ended);
        self.poll.total
    }

    /// Ends the pause, if there is one and it may have been long, and with it the poll before it.
    #[inline]
    pub(in crate::http) fn end_pause(&mut self) {
        if let Some(paused_at) = self.take_pause() {
            self.end_paused_poll(paused_at);
        }
    }

    /// Ends a pause. Returns its beginning if the coarse clock has ticked since, so that the pause may have been long: a
    /// client was slow, or a middleware waited.
    #[inline]
    fn take_pause(&mut self) -> Option<Moment> {
        let pause = self.poll.pause.take()?;
        (pause.tick != self.worker.recorder.loop_watch.tick()).then_some(pause.began)
    }

    #[cold]
    fn end_paused_poll(&mut self, paused_at: Moment) {
        self.end_poll(paused_at);
        self.polls.then(self.poll.paused_for);
    }

    #[inline]
    fn end_poll(&mut self, ended: Moment) {
        if let Some(since) = self.poll.since.take() {
            let took = ended.nanoseconds_since(since);
            self.poll.total += took;
            self.polls.end(since, ended);
            if took >= self.worker.recorder.loop_watch.threshold() {
                self.polls.has_stalled = true;
                self.stalled(since, took);
            }
        }
    }

    #[cold]
    fn stalled(&self, since: Moment, took: u64) {
        if !self.is_shown {
            return;
        }
        let listed = self.listed();
        let is_reported = listed.is_some_and(|listed| !listed.report_stall(since));
        let starved = self.worker.in_flight.starved_since(since);
        let took = Duration::from_nanos(took).saturating_sub(starved);
        // A stall that was reported while it lasted counts, however the estimate of the waits changes until its end.
        if took < self.worker.recorder.loop_watch.stall_threshold() && !is_reported {
            return;
        }
        let trace_id = self.trace.as_ref().map(|trace| trace.id());
        let found;
        let pattern = if let Some(series) = &self.series {
            &*series.route.pattern
        } else {
            found = self.pattern_by_path();
            &found
        };
        (self.worker).stalled(pattern, self.method, trace_id, took, is_reported);
    }

    /// Notes that the head of the answer is there, and that its body follows.
    #[inline]
    pub(in crate::http) fn note_head(&mut self) {
        self.polls.head(clock::now());
    }

    #[inline]
    fn set_state(&self, state: RequestState, since: Moment) {
        if let Some(listed) = self.listed() {
            listed.set_state(state, since);
        }
    }

    /// Lists how many bytes of the answer's body were handed to the connection.
    #[inline]
    pub(in crate::http) fn list_bytes(&self) {
        if let Some(listed) = self.listed() {
            listed.set_sent_bytes(self.delivery.bytes);
        }
    }

    /// Returns what is to be noted of the request's payload.
    pub(in crate::http) fn watch_body(&mut self) -> Rc<RequestBody> {
        self.has_payload = true;
        Rc::clone(&self.request_body)
    }

    /// Bytes of the request's body that the service has read.
    #[inline]
    pub(in crate::http) fn request_bytes(&self) -> u64 {
        if self.has_payload {
            self.request_body.bytes.get()
        } else {
            0
        }
    }

    /// Whether the client left before the request's body was complete.
    #[inline]
    pub(in crate::http) fn is_body_cut(&self) -> bool {
        self.has_payload && self.request_body.is_cut.get()
    }

    /// Prepares what is known of the body for the next request. A payload that outlives this request keeps its own.
    #[inline]
    fn clear_request_body(&mut self) {
        self.has_payload = false;
        match Rc::get_mut(&mut self.request_body) {
            Some(body) => *body = RequestBody::default(),
            None => self.request_body = Rc::default(),
        }
    }

    /// The time since the request's head was parsed.
    pub(in crate::http) fn elapsed(&self) -> Duration {
        clock::now().since(self.started)
    }

    /// The nanoseconds from the request's head to this moment.
    #[inline]
    pub(in crate::http) fn nanoseconds_until(&self, ended: Moment) -> u64 {
        ended.nanoseconds_since(self.started)
    }

    /// What a thread [enters](EnteredRequest::within) to work for this request.
    #[inline]
    pub(in crate::http) fn entered_parts(&mut self) -> EnteredParts<'_> {
        (&mut self.context, self.trace.as_deref())
    }

    pub(in crate::http) fn span(&self) -> Option<SpanContext> {
        self.trace.as_deref().and_then(Trace::sampled_span)
    }

    /// The request's method and path as they arrived.
    #[inline]
    pub(in crate::http) fn sent(&self) -> Sent<'_> {
        Sent {
            method: self.method,
            path: &self.path,
        }
    }

    /// The outline of the path as it arrived.
    #[inline]
    pub(in crate::http) fn outline(&self) -> PathOutline {
        self.outline
    }

    /// The pattern of the endpoint that the request's path and method lead to. For requests that left no answer.
    #[cold]
    pub(in crate::http) fn pattern_by_path(&self) -> String {
        self.worker.pattern_of(&self.path, self.method)
    }

    /// Adds the headers about this request to the answer: its trace and, if enabled, where its time went.
    #[cold]
    pub(in crate::http) fn add_headers(&self, headers: &mut HeaderMap) {
        if let Some(trace) = &self.trace {
            trace.add_request_id(headers);
        }
        if self.worker.recorder.server_timing {
            server_timing::add(headers, self.context.as_deref(), self.elapsed());
        }
    }

    /// Notes why the request failed. The first cause stays.
    #[cold]
    pub(in crate::http) fn note_cause(&self, cause: FailureCause) {
        self.cause
            .borrow_mut()
            .get_or_insert_with(|| Box::new(cause));
    }

    /// Why the request failed, if that was noted.
    #[cold]
    pub(in crate::http) fn cause(&self) -> Option<FailureCause> {
        self.cause.borrow().as_deref().cloned()
    }

    /// Logs a caught panic, and counts it unless the endpoint with this pattern is excluded.
    #[cold]
    pub(in crate::http) fn panicked(&self, pattern: &str, payload: &(dyn Any + Send)) {
        let _entered = self.trace.as_ref().map(|trace| trace.log_span.enter());
        self.note_cause(FailureCause::of_panic(panics::take_location()));
        let recorder = &self.worker.recorder;
        let endpoint = &*recorder.families.renaming.name(pattern);
        if !recorder.excludes(pattern) {
            recorder.families.count_panic(endpoint);
        }
        if let Some(line) = recorder.panic_lines.line() {
            let method = self.method;
            let left_out = line.left_out;
            let message = panics::message(payload);
            tracing::error!(
                endpoint,
                method,
                left_out,
                "panic while serving a request: {message}"
            );
        }
    }
}

impl Drop for RequestSlot {
    /// A slot that is dropped during a panic is not used again. Its request is no longer in progress.
    #[inline]
    fn drop(&mut self) {
        self.leave();
        if let Some(listed) = self.listed() {
            self.worker.in_flight.put_back(listed);
        }
    }
}
