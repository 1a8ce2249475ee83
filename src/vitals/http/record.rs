//! The record of one request, from its head until the head of its answer is known; from then on it is an
//! [`Answer`](super::answer::Answer).
//!
//! A record moves with the request: in the middleware's future, or within the error that the future ended with. One that
//! is dropped tells that its client left before there was an answer, so that no path out of a request can forget it.

use std::{any::Any, cell::Cell, rc::Rc, sync::Arc, time::Instant};

use actix_web::{
    HttpRequest,
    dev::{ServiceRequest, Url},
    http::{Uri, header::HeaderMap, uri::PathAndQuery},
};

use super::{
    answer::{Answer, Head},
    labels::method_label,
    progress::Progress,
    series::{Outcome, Series},
    trace::{Trace, TraceParent},
    worker::Worker,
};
use crate::vitals::context::RequestContext;

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Record {
    /// None when it was answered.
    progress: Option<Progress>,
    method: &'static str,
    /// For the endpoint of a request whose client or handler is gone.
    path: Option<PathAndQuery>,
}

impl Record {
    /// Opens the record of a request that has just been parsed.
    pub(super) fn open(worker: &Rc<Worker>, request: &ServiceRequest) -> Self {
        let started = Instant::now();
        let method = method_label(request.method());
        worker.meet(request);
        worker.enter(method);
        let trace = TraceParent::of(request.headers()).map(Trace::boxed);
        let span = trace.as_deref().and_then(Trace::sampled_span);
        Self {
            progress: Some(Progress {
                worker: Rc::clone(worker),
                started,
                context: span.map(|span| Arc::new(RequestContext::of_span(span))),
                trace,
                request_bytes: None,
            }),
            method,
            path: request.uri().path_and_query().cloned(),
        }
    }

    /// Counts the bytes of the request's body through a cell that its payload adds to; none where nobody wants to know.
    pub(super) fn count_request_bytes(&mut self) -> Option<Rc<Cell<u64>>> {
        let progress = self.progress.as_mut()?;
        if progress.worker.recorder.families.sizes.is_some() {
            progress.request_bytes = Some(Rc::default());
        }
        progress.request_bytes.clone()
    }

    /// The same as [`Progress::within`].
    #[inline]
    pub(super) fn within<T>(&mut self, f: impl FnOnce() -> T) -> T {
        match &mut self.progress {
            Some(progress) => progress.within(f),
            None => f(),
        }
    }

    /// Counts a caught panic.
    #[cold]
    pub(super) fn panicked(&self, payload: &(dyn Any + Send)) {
        if let Some(progress) = &self.progress {
            let renaming = &progress.worker.recorder.families.renaming;
            let endpoint = renaming.name(&self.pattern_by_path(&progress.worker));
            progress.panicked(self.method, &endpoint, payload);
        }
    }

    /// Completes the head of the answer by what it is to say of its request: the trace it belongs to and, if wanted,
    /// where its time went.
    #[inline]
    pub(super) fn complete_head<'a>(&self, headers: impl FnOnce() -> &'a mut HeaderMap) {
        let Some(progress) = &self.progress else {
            return;
        };
        if progress.trace.is_some() || progress.worker.recorder.server_timing {
            progress.add_headers(headers());
        }
    }

    /// The head of the answer is known. The request tells its route; where there is none any more, that is found from
    /// the path.
    ///
    /// None for a record that has been answered before.
    pub(super) fn answer(mut self, request: Option<&HttpRequest>, head: Head) -> Option<Answer> {
        let progress = self.progress.take()?;
        let series = match request {
            Some(request) => progress.worker.series_of(request, self.outcome(head)),
            None => self.series_by_path(&progress.worker, self.outcome(head)),
        };
        Some(Answer::new(progress, series, head))
    }

    /// Counts a request whose client left before there was an answer.
    #[cold]
    fn abandon(&self, mut progress: Progress) {
        let series = self.series_by_path(&progress.worker, Outcome::abandoned(self.method));
        Answer::abandon(&mut progress, &series);
        progress.worker.leave(self.method);
    }

    fn outcome(&self, head: Head) -> Outcome {
        Outcome {
            method: self.method,
            status: head.status,
            is_stream: head.is_stream,
        }
    }

    #[cold]
    fn series_by_path(&self, worker: &Worker, outcome: Outcome) -> Rc<Series> {
        worker.series(&self.pattern_by_path(worker), outcome)
    }

    /// The pattern of the endpoint that the request's path leads to.
    fn pattern_by_path(&self, worker: &Worker) -> String {
        // As routing saw it: percent-encodings of what needs none are undone.
        let uri = self.path.clone().map(Uri::from).unwrap_or_default();
        worker.pattern_of(Url::new(uri).path())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(progress) = self.progress.take() {
            self.abandon(progress);
        }
    }
}
