//! A request in progress: what it is recorded with from its head to its end, whatever becomes of it.

use std::{any::Any, cell::Cell, rc::Rc, sync::Arc, time::Instant};

use actix_web::http::header::HeaderMap;

use super::{server_timing, trace::Trace, worker::Worker};
use crate::{
    registry::SpanContext,
    vitals::{
        context::{self, RequestContext},
        panics,
    },
};

/// What a request is recorded with, from its head to its end.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) worker: Rc<Worker>,
    pub(super) started: Instant,
    pub(super) context: Option<Arc<RequestContext>>,
    /// Boxed, since a record moves often and few requests are traced.
    pub(super) trace: Option<Box<Trace>>,
    pub(super) request_bytes: Option<Rc<Cell<u64>>>,
}

impl Progress {
    /// Runs `f` as part of this request: it finds the request's context, and its log lines bear the trace's id.
    #[inline]
    pub(super) fn within<T>(&mut self, f: impl FnOnce() -> T) -> T {
        let _entered = self.trace.as_ref().map(|trace| trace.log_span.enter());
        context::within(&mut self.context, f)
    }

    pub(super) fn span(&self) -> Option<SpanContext> {
        self.trace.as_deref().and_then(Trace::sampled_span)
    }

    /// Says in the head of the answer which trace its request belongs to and, if wanted, where its time went.
    #[cold]
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        if let Some(trace) = &self.trace {
            trace.name(headers);
        }
        if self.worker.recorder.server_timing {
            server_timing::add(headers, self.context.as_deref(), self.started.elapsed());
        }
    }

    /// Counts a caught panic, and says in the log what it was.
    #[cold]
    pub(super) fn panicked(&self, method: &str, endpoint: &str, payload: &(dyn Any + Send)) {
        let _entered = self.trace.as_ref().map(|trace| trace.log_span.enter());
        self.worker.recorder.families.count_panic(endpoint);
        let message = panics::message(payload);
        tracing::error!(endpoint, method, "panic while serving a request: {message}");
    }
}
