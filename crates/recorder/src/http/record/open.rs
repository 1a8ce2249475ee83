//! The record of one request from its head until the head of its answer is known. From then on it is an
//! [`AnsweredRequest`](crate::http::record::answered::AnsweredRequest).
//!
//! A record moves with the request: in the middleware's future, or within the error that the future ended with. Dropping
//! it counts a client that left before there was an answer, so that each request is counted.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use actix_web::{HttpRequest, dev::ServiceRequest, http::header::HeaderMap};

use crate::http::{
    insight::causes::{FailureCause, FailureKind},
    record::{
        answered::{AnsweredRequest, Head, abandon},
        slot::{EnteredParts, RequestBody, RequestSlot, RequestSlots},
    },
    series::{
        cache::{RequestEnding, RequestOutcome},
        labels::answered_method,
    },
};
use crate::in_flight::RequestState;

/// A request without an answer. The default is one that is not recorded.
#[derive(Debug, Default)]
pub(in crate::http) struct OpenRecord {
    /// None if the request is not recorded, and once it was answered.
    slot: Option<Box<RequestSlot>>,
}

impl OpenRecord {
    /// Opens the record of a request that has just been parsed. If its path leads to an excluded endpoint, the request is
    /// not counted as in progress until another endpoint answers it.
    #[inline]
    pub(in crate::http) fn open(slots: &Rc<RequestSlots>, request: &ServiceRequest) -> Self {
        let is_shown = !slots.worker.expects_to_exclude(request);
        Self {
            slot: Some(RequestSlot::begin(slots, request, is_shown)),
        }
    }

    /// Whether the request is recorded and was not answered yet.
    #[inline]
    pub(in crate::http) fn is_open(&self) -> bool {
        self.slot.is_some()
    }

    /// Returns what is to be noted of the request's payload.
    pub(in crate::http) fn watch_body(&mut self) -> Option<Rc<RequestBody>> {
        self.slot.as_mut().map(|slot| slot.watch_body())
    }

    /// The same as [`RequestSlot::entered_parts`]; `None` if the request was answered.
    #[inline]
    pub(in crate::http) fn entered_parts(&mut self) -> Option<EnteredParts<'_>> {
        self.slot.as_mut().map(|slot| slot.entered_parts())
    }

    /// The same as [`RequestSlot::enter_loop`].
    #[inline]
    pub(in crate::http) fn enter_loop(&mut self) {
        if let Some(slot) = &mut self.slot {
            slot.enter_loop();
        }
    }

    /// The same as [`RequestSlot::pause_loop`].
    #[inline]
    pub(in crate::http) fn pause_loop(&mut self) {
        if let Some(slot) = &mut self.slot {
            slot.pause_loop(RequestState::Awaiting);
        }
    }

    /// The same as [`RequestSlot::leave_loop`].
    #[inline]
    pub(in crate::http) fn leave_loop(&mut self) {
        if let Some(slot) = &mut self.slot {
            slot.leave_loop(RequestState::Awaiting);
        }
    }

    /// Notes why an answer is a failure: the error that it was made from, if there is one.
    #[cold]
    pub(in crate::http) fn note_failure(&self, error: Option<&actix_web::Error>) {
        if let Some(slot) = &self.slot {
            // The error may panic when it is shown, like any other code of the application.
            let cause = error.map_or(Ok(FailureCause::of_kind(FailureKind::Answer)), |error| {
                catch_unwind(AssertUnwindSafe(|| FailureCause::of_error(error)))
            });
            slot.note_cause(cause.unwrap_or(FailureCause::of_kind(FailureKind::Error)));
        }
    }

    /// Counts a caught panic.
    #[cold]
    pub(in crate::http) fn panicked(&self, payload: &(dyn Any + Send)) {
        if let Some(slot) = &self.slot {
            slot.panicked(&slot.pattern_by_path(), payload);
        }
    }

    /// Adds the headers about this request to the answer: its trace and, if enabled, where its time went.
    #[inline]
    pub(in crate::http) fn complete_head<'a>(&self, headers: impl FnOnce() -> &'a mut HeaderMap) {
        let Some(slot) = &self.slot else {
            return;
        };
        if slot.trace.is_some() || slot.worker.recorder.server_timing {
            slot.add_headers(headers());
        }
    }

    /// Whether the request's method is HEAD.
    pub(in crate::http) fn is_head(&self) -> bool {
        matches!(&self.slot, Some(slot) if slot.method == "HEAD")
    }

    /// Continues with an answer whose head is known. `request` has the route; without it, the route is found by the path.
    ///
    /// Nothing is left to record if the endpoint is excluded, the client left before its request was complete, or the
    /// request was answered before.
    #[inline]
    pub(in crate::http) fn answer(
        mut self,
        request: Option<&HttpRequest>,
        head: Head,
    ) -> AnsweredRequest {
        let Some(mut slot) = self.slot.take() else {
            return AnsweredRequest::default();
        };
        if slot.is_body_cut() {
            cut_off(slot, request);
            return AnsweredRequest::default();
        }
        let outcome = RequestOutcome {
            method: answered_method(slot.method, head.status, true),
            status: head.status,
            is_stream: head.is_stream,
            ending: RequestEnding::Whole,
        };
        let worker = &slot.worker;
        let series = match request {
            Some(request) => worker.series_of(request, slot.outline(), slot.sent(), outcome),
            None => worker.series(&slot.pattern_by_path(), outcome),
        };
        let Some(series) = series else {
            slot.end();
            return AnsweredRequest::default();
        };
        slot.show();
        slot.answered_by(&series.route);
        AnsweredRequest::new(slot, series, head)
    }
}

/// Counts a request whose client left before the request was complete. The service's answer, for instance 400, has no
/// recipient.
#[cold]
fn cut_off(slot: Box<RequestSlot>, request: Option<&HttpRequest>) {
    let pattern = match request {
        Some(request) => slot.worker.pattern_of_request(request, slot.method),
        None => slot.pattern_by_path(),
    };
    let outcome = RequestOutcome::abandoned(slot.method);
    abandon(slot, &pattern, outcome);
}

/// Counts a request whose client left before there was an answer.
#[cold]
fn leave(slot: Box<RequestSlot>) {
    let pattern = slot.pattern_by_path();
    let outcome = RequestOutcome::abandoned(slot.method);
    abandon(slot, &pattern, outcome);
}

impl Drop for OpenRecord {
    /// Counts a request whose client left before there was an answer.
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            leave(slot);
        }
    }
}
