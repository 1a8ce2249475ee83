//! The record of one request, from its head until the head of its answer is known; from then on it is an
//! [`Answer`](super::answer::Answer).
//!
//! A record moves with the request: in the middleware's future, or within the error that the future ended with. One that
//! is dropped tells that its client left before there was an answer, so that no path out of a request can forget it.

use std::{any::Any, cell::Cell, rc::Rc};

use actix_web::{HttpRequest, dev::ServiceRequest, http::header::HeaderMap};

use super::{
    answer::{Answer, Head},
    labels::answered_method,
    progress::{Places, Progress},
    series::Outcome,
};

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Record {
    /// None when it was answered.
    progress: Option<Box<Progress>>,
}

impl Record {
    /// Opens the record of a request that has just been parsed.
    #[inline]
    pub(super) fn open(places: &Rc<Places>, request: &ServiceRequest) -> Self {
        Self {
            progress: Some(Progress::begin(places, request)),
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
            let endpoint = renaming.name(&progress.pattern_by_path());
            progress.panicked(&endpoint, payload);
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
    #[inline]
    pub(super) fn answer(mut self, request: Option<&HttpRequest>, head: Head) -> Option<Answer> {
        let progress = self.progress.take()?;
        let outcome = Outcome {
            method: answered_method(progress.method, head.status, true),
            status: head.status,
            is_stream: head.is_stream,
        };
        let worker = &progress.worker;
        let series = match request {
            Some(request) => worker.series_of(request, outcome),
            None => worker.series(&progress.pattern_by_path(), outcome),
        };
        Some(Answer::new(progress, series, head))
    }
}

impl Drop for Record {
    /// Counts a request whose client left before there was an answer.
    #[inline]
    fn drop(&mut self) {
        if let Some(progress) = self.progress.take() {
            Answer::abandon(progress);
        }
    }
}
