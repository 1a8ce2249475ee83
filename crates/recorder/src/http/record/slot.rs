//! The memory that holds the record of one request, from its head to its end.
//!
//! A record moves often: from the middleware to its future, to the answer's body, to the connection. The slot stays where
//! it is, and only a pointer moves. Slots are used again, so that requests allocate none in the steady state.

use std::{
    any::Any,
    cell::{Cell, RefCell},
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
        insight::{
            server_timing,
            trace::{Trace, TraceParent},
        },
        series::labels::method_label,
        worker::{Sent, WorkerRecorder},
    },
    panics,
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
    started: Moment,
    pub(in crate::http) context: Option<Arc<RequestContext>>,
    /// Boxed, because few requests are traced.
    pub(in crate::http) trace: Option<Box<Trace>>,
    /// Shared with the payload that the service reads.
    pub(in crate::http) request_body: Rc<RequestBody>,
    /// The path as it arrived. The endpoint of a request without an answer is found by it.
    path: String,
    pub(in crate::http) is_http_2: bool,
    /// Whether the in-progress gauge counts the request.
    is_shown: bool,
    pub(in crate::http) delivery: Delivery,
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
}

/// What is known of a request's body.
#[derive(Debug, Default)]
pub(in crate::http) struct RequestBody {
    /// Bytes that the service has read.
    pub(in crate::http) bytes: Cell<u64>,
    /// Whether the client left before the body was complete.
    pub(in crate::http) is_cut: Cell<bool>,
}

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
            worker,
            slots: None,
            method: "",
            started: clock::now(),
            context: None,
            trace: None,
            request_body: Rc::default(),
            path: String::new(),
            is_http_2: false,
            is_shown: false,
            delivery: Delivery::default(),
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
        slot.path.push_str(request.match_info().as_str());
        slot.is_http_2 = request.version() == Version::HTTP_2;
        slot.worker.learn_application(request);
        slot.slots = Some(Rc::clone(slots));
        if is_shown {
            slot.show();
        }
        if let Some(parent) = TraceParent::of(request.headers()) {
            let trace = Trace::boxed(parent);
            let span = trace.sampled_span();
            slot.context = span.map(|span| Arc::new(RequestContext::of_span(span)));
            slot.trace = Some(trace);
        }
        slot
    }

    /// Ends the request, and returns the slot to its free list.
    #[inline]
    pub(in crate::http) fn end(mut self: Box<Self>) {
        self.context = None;
        self.trace = None;
        self.clear_request_body();
        self.path.clear();
        self.path.shrink_to(KEPT_PATH);
        self.delivery = Delivery::default();
        if let Some(slots) = self.leave() {
            slots.put_back(self);
        }
    }

    /// Decrements the in-progress gauge, at most once in a request, and returns the free list this slot belongs to.
    #[inline]
    fn leave(&mut self) -> Option<Rc<RequestSlots>> {
        let slots = self.slots.take()?;
        if self.is_shown {
            self.is_shown = false;
            self.worker.leave(self.method);
        }
        Some(slots)
    }

    /// Counts the request in the in-progress gauge, at most once.
    #[inline]
    pub(in crate::http) fn show(&mut self) {
        if !self.is_shown {
            self.is_shown = true;
            self.worker.enter(self.method);
        }
    }

    /// Prepares what is known of the body for the next request. A payload that outlives this request keeps its own.
    #[inline]
    fn clear_request_body(&mut self) {
        match Rc::get_mut(&mut self.request_body) {
            Some(body) => *body = RequestBody::default(),
            None => self.request_body = Rc::default(),
        }
    }

    /// The time since the request's head was parsed.
    pub(in crate::http) fn elapsed(&self) -> Duration {
        clock::now().since(self.started)
    }

    /// The seconds from the request's head to this moment.
    #[inline]
    pub(in crate::http) fn seconds_until(&self, ended: Moment) -> f64 {
        ended.seconds_since(self.started)
    }

    /// Runs `f` as part of this request: it finds the request's context, and its log lines have the trace's id.
    #[inline]
    pub(in crate::http) fn within<T>(&mut self, f: impl FnOnce() -> T) -> T {
        let _entered = self.trace.as_ref().map(|trace| trace.log_span.enter());
        context::within(&mut self.context, f)
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

    /// Logs a caught panic, and counts it unless the endpoint with this pattern is excluded.
    #[cold]
    pub(in crate::http) fn panicked(&self, pattern: &str, payload: &(dyn Any + Send)) {
        let _entered = self.trace.as_ref().map(|trace| trace.log_span.enter());
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
    }
}
