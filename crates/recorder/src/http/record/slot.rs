//! A request in progress: what it is recorded with from its head to its end, whatever becomes of it.
//!
//! A request is handed on often: from the middleware to its future, from there to the answer's body, and that to the
//! connection. So that little moves with it, all that is known of it lies in a place of its own, which is used again: in
//! the steady state no request allocates one.

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

use crate::http::{
    insight::server_timing,
    insight::trace::{Trace, TraceParent},
    series::labels::method_label,
    worker::{Sent, WorkerRecorder},
};
use crate::{
    clock::{self, Moment},
    context::{self, RequestContext},
    panics,
};
use vitals_registry::SpanContext;

/// Bytes of a path's buffer that are kept from one request to the next.
const KEPT_PATH: usize = 1024;

/// Most places that are kept. Of more requests at once, the rest allocate theirs.
const MOST_FREE_SLOTS: usize = 128;

/// What is known of a request.
#[derive(Debug)]
pub(in crate::http) struct RequestSlot {
    pub(in crate::http) worker: Rc<WorkerRecorder>,
    /// Where its place goes at its end; none while no request is in it.
    places: Option<Rc<RequestSlots>>,
    pub(in crate::http) method: &'static str,
    started: Moment,
    pub(in crate::http) context: Option<Arc<RequestContext>>,
    /// Boxed, since few requests are traced.
    pub(in crate::http) trace: Option<Box<Trace>>,
    /// Shared with the payload that the service reads.
    pub(in crate::http) request_body: Rc<RequestBody>,
    /// The path as it came: the endpoint of a request whose client or handler is gone is found by it.
    path: String,
    pub(in crate::http) is_http_2: bool,
    /// Whether the request is counted by the in-progress gauge.
    is_shown: bool,
    pub(in crate::http) delivery: Delivery,
}

/// How far the answer has come.
#[derive(Debug, Default)]
pub(in crate::http) struct Delivery {
    /// The bytes of the body that went to the connection.
    pub(in crate::http) bytes: u64,
    /// The answer is whole with so many.
    pub(in crate::http) whole_at: u64,
    /// The size that the head gives; 0 where it gives none.
    pub(in crate::http) promised: u64,
    /// What of a large chunk is still to be handed on.
    pub(in crate::http) rest: Option<Bytes>,
    /// Whether the body was ever asked for.
    pub(in crate::http) is_polled: bool,
    pub(in crate::http) is_settled: bool,
}

/// The state of a request's body.
#[derive(Debug, Default)]
pub(in crate::http) struct RequestBody {
    /// The bytes that the service has read.
    pub(in crate::http) bytes: Cell<u64>,
    /// Whether the service has found that the client left before the body was whole.
    pub(in crate::http) is_cut: Cell<bool>,
}

/// The places of one worker's requests.
#[derive(Debug)]
pub(in crate::http) struct RequestSlots {
    pub(in crate::http) worker: Rc<WorkerRecorder>,
    #[allow(clippy::vec_box, reason = "a place is handed on as a pointer")]
    free: RefCell<Vec<Box<RequestSlot>>>,
}

impl RequestSlots {
    pub(in crate::http) fn new(worker: WorkerRecorder) -> Self {
        Self {
            worker: Rc::new(worker),
            free: RefCell::default(),
        }
    }

    /// A place that holds nothing of an earlier request.
    #[inline]
    fn take(&self) -> Box<RequestSlot> {
        let free = self.free.borrow_mut().pop();
        free.unwrap_or_else(|| Box::new(RequestSlot::new(Rc::clone(&self.worker))))
    }

    #[inline]
    fn put_back(&self, place: Box<RequestSlot>) {
        let mut free = self.free.borrow_mut();
        if free.len() < MOST_FREE_SLOTS {
            free.push(place);
        }
    }
}

impl RequestSlot {
    #[cold]
    fn new(worker: Rc<WorkerRecorder>) -> Self {
        Self {
            worker,
            places: None,
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

    /// A request that has just been parsed. The in-progress gauge counts it from now on if it `is_shown`.
    #[inline]
    pub(in crate::http) fn begin(
        places: &Rc<RequestSlots>,
        request: &ServiceRequest,
        is_shown: bool,
    ) -> Box<Self> {
        let started = clock::now();
        let mut progress = places.take();
        progress.started = started;
        progress.method = method_label(request.method());
        progress.path.push_str(request.match_info().as_str());
        progress.is_http_2 = request.version() == Version::HTTP_2;
        progress.worker.meet(request);
        progress.places = Some(Rc::clone(places));
        if is_shown {
            progress.show();
        }
        if let Some(parent) = TraceParent::of(request.headers()) {
            let trace = Trace::boxed(parent);
            let span = trace.sampled_span();
            progress.context = span.map(|span| Arc::new(RequestContext::of_span(span)));
            progress.trace = Some(trace);
        }
        progress
    }

    /// The request is no longer in progress.
    #[inline]
    pub(in crate::http) fn end(mut self: Box<Self>) {
        self.context = None;
        self.trace = None;
        self.clear_request_body();
        self.path.clear();
        self.path.shrink_to(KEPT_PATH);
        self.delivery = Delivery::default();
        if let Some(places) = self.leave() {
            places.put_back(self);
        }
    }

    /// Tells where the place was taken from, once in a request.
    #[inline]
    fn leave(&mut self) -> Option<Rc<RequestSlots>> {
        let places = self.places.take()?;
        if self.is_shown {
            self.is_shown = false;
            self.worker.leave(self.method);
        }
        Some(places)
    }

    /// Counts the request in the in-progress gauge, if that does not yet.
    #[inline]
    pub(in crate::http) fn show(&mut self) {
        if !self.is_shown {
            self.is_shown = true;
            self.worker.enter(self.method);
        }
    }

    /// Prepares the request's body for the next request. A reader that outlives this request keeps the old body.
    #[inline]
    fn clear_request_body(&mut self) {
        match Rc::get_mut(&mut self.request_body) {
            Some(body) => *body = RequestBody::default(),
            None => self.request_body = Rc::default(),
        }
    }

    /// How long the request has been in progress.
    pub(in crate::http) fn elapsed(&self) -> Duration {
        clock::now().since(self.started)
    }

    /// The seconds from its start to this moment.
    #[inline]
    pub(in crate::http) fn seconds_until(&self, ended: Moment) -> f64 {
        ended.seconds_since(self.started)
    }

    /// Runs `f` as part of this request: it finds the request's context, and its log lines bear the trace's id.
    #[inline]
    pub(in crate::http) fn within<T>(&mut self, f: impl FnOnce() -> T) -> T {
        let _entered = self.trace.as_ref().map(|trace| trace.log_span.enter());
        context::within(&mut self.context, f)
    }

    pub(in crate::http) fn span(&self) -> Option<SpanContext> {
        self.trace.as_deref().and_then(Trace::sampled_span)
    }

    /// The request's properties when it came.
    #[inline]
    pub(in crate::http) fn sent(&self) -> Sent<'_> {
        Sent {
            method: self.method,
            path: &self.path,
        }
    }

    /// The pattern of the endpoint that the request's path and method lead to: where the request itself is gone.
    #[cold]
    pub(in crate::http) fn pattern_by_path(&self) -> String {
        self.worker.pattern_of(&self.path, self.method)
    }

    /// Says in the head of the answer which trace its request belongs to and, if wanted, where its time went.
    #[cold]
    pub(in crate::http) fn add_headers(&self, headers: &mut HeaderMap) {
        if let Some(trace) = &self.trace {
            trace.name(headers);
        }
        if self.worker.recorder.server_timing {
            server_timing::add(headers, self.context.as_deref(), self.elapsed());
        }
    }

    /// Counts a caught panic, unless the endpoint with this pattern is excluded, and says in the log what it was.
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
    /// A place that a panic has come upon is not used again, but no longer in progress either.
    #[inline]
    fn drop(&mut self) {
        self.leave();
    }
}
