//! The record of one request, from its head until the head of its answer is known; from then on it is an
//! [`AnsweredRequest`](crate::http::record::answered::AnsweredRequest).
//!
//! A record moves with the request: in the middleware's future, or within the error that the future ended with. One that
//! is dropped tells that its client left before there was an answer, so that no path out of a request can forget it.

use std::{any::Any, rc::Rc};

use actix_web::{HttpRequest, dev::ServiceRequest, http::header::HeaderMap};

use crate::http::{
    record::answered::{AnsweredRequest, Head, abandon},
    record::slot::{RequestBody, RequestSlot, RequestSlots},
    series::cache::{RequestEnding, RequestOutcome},
    series::labels::answered_method,
};

/// A request without an answer.
#[derive(Debug)]
pub(in crate::http) struct OpenRecord {
    /// None when it was answered.
    progress: Option<Box<RequestSlot>>,
}

impl OpenRecord {
    /// Opens the record of a request that has just been parsed. One whose path leads to an excluded endpoint is not shown
    /// in progress, unless another endpoint turns out to answer it.
    #[inline]
    pub(in crate::http) fn open(places: &Rc<RequestSlots>, request: &ServiceRequest) -> Self {
        let is_shown = !places.worker.expects_to_exclude(request);
        Self {
            progress: Some(RequestSlot::begin(places, request, is_shown)),
        }
    }

    /// The notes of the request's payload.
    pub(in crate::http) fn request_body(&self) -> Option<Rc<RequestBody>> {
        let progress = self.progress.as_ref()?;
        Some(Rc::clone(&progress.request_body))
    }

    /// The same as [`RequestSlot::within`].
    #[inline]
    pub(in crate::http) fn within<T>(&mut self, f: impl FnOnce() -> T) -> T {
        match &mut self.progress {
            Some(progress) => progress.within(f),
            None => f(),
        }
    }

    /// Counts a caught panic.
    #[cold]
    pub(in crate::http) fn panicked(&self, payload: &(dyn Any + Send)) {
        if let Some(progress) = &self.progress {
            progress.panicked(&progress.pattern_by_path(), payload);
        }
    }

    /// Completes the head of the answer by what it is to say of its request: the trace it belongs to and, if wanted,
    /// where its time went.
    #[inline]
    pub(in crate::http) fn complete_head<'a>(&self, headers: impl FnOnce() -> &'a mut HeaderMap) {
        let Some(progress) = &self.progress else {
            return;
        };
        if progress.trace.is_some() || progress.worker.recorder.server_timing {
            progress.add_headers(headers());
        }
    }

    /// Whether the request's method is HEAD.
    pub(in crate::http) fn is_head(&self) -> bool {
        matches!(&self.progress, Some(progress) if progress.method == "HEAD")
    }

    /// The head of the answer is known. The request tells its route; where there is none any more, that is found from
    /// the path.
    ///
    /// None where nothing is left to record: the endpoint is excluded, the client has left before its request was whole,
    /// or the record has been answered before.
    #[inline]
    pub(in crate::http) fn answer(
        mut self,
        request: Option<&HttpRequest>,
        head: Head,
    ) -> Option<AnsweredRequest> {
        let mut progress = self.progress.take()?;
        if progress.request_body.is_cut.get() {
            cut_off(progress, request);
            return None;
        }
        let outcome = RequestOutcome {
            method: answered_method(progress.method, head.status, true),
            status: head.status,
            is_stream: head.is_stream,
            ending: RequestEnding::Whole,
        };
        let worker = &progress.worker;
        let series = match request {
            Some(request) => worker.series_of(request, progress.sent(), outcome),
            None => worker.series(&progress.pattern_by_path(), outcome),
        };
        let Some(series) = series else {
            progress.end();
            return None;
        };
        progress.show();
        Some(AnsweredRequest::new(progress, series, head))
    }
}

/// Counts a request whose client left before the request was whole. The service's answer to the rest of it, for
/// instance 400, has no recipient.
#[cold]
fn cut_off(progress: Box<RequestSlot>, request: Option<&HttpRequest>) {
    let pattern = match request {
        Some(request) => progress.worker.pattern_of_request(request, progress.method),
        None => progress.pattern_by_path(),
    };
    let outcome = RequestOutcome::abandoned(progress.method);
    abandon(progress, &pattern, outcome);
}

impl Drop for OpenRecord {
    /// Counts a request whose client left before there was an answer.
    #[inline]
    fn drop(&mut self) {
        if let Some(progress) = self.progress.take() {
            let pattern = progress.pattern_by_path();
            let outcome = RequestOutcome::abandoned(progress.method);
            abandon(progress, &pattern, outcome);
        }
    }
}
