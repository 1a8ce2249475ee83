//! The record of a request from the head of its answer on: settled exactly once, whatever happens to the body.
//!
//! It moves with the body. It settles with the body's last byte, its end, its error or its panic; and when it is dropped,
//! so that no path out of a body can forget it. What is counted of a request is counted here.

use std::{any::Any, mem, rc::Rc, sync::Arc, time::SystemTime};

use actix_web::{body::BodySize, http::StatusCode, web::Bytes};

use crate::http::{
    insight::notable::NotableRequest,
    record::slot::{Delivery, RequestSlot},
    series::cache::{DatabaseUse, RequestEnding, RequestOutcome, RequestSeries, Timing},
};
use crate::{clock, context::RequestContext};

/// Most bytes that are handed on at once.
///
/// A connection asks for more when it has sent most of what it has: a body that is handed on in slices is over when its
/// last bytes are about to be sent, not when the handler has given them away.
const SLICE_BYTES: usize = 32 * 1024;

/// What the head of an answer says.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Head {
    pub(in crate::http) status: StatusCode,
    /// The size of the bytes that are sent.
    pub(in crate::http) size: BodySize,
    /// Whether the body has no end of its own.
    pub(in crate::http) is_stream: bool,
}

impl Head {
    /// Returns the head of an answer: the size that it announces, for this method and a body of this size.
    #[inline]
    pub(in crate::http) fn new(status: StatusCode, size: BodySize, is_head: bool) -> Self {
        Self {
            status,
            size: if is_head || has_no_body(status) {
                BodySize::None
            } else {
                size
            },
            is_stream: false,
        }
    }
}

/// Whether answers with this status have no body (RFC 9110, section 6.4.1).
#[inline]
pub(in crate::http) fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// A request whose answer is on its way.
#[derive(Debug)]
pub(in crate::http) struct AnsweredRequest {
    /// None when it has ended.
    progress: Option<Box<RequestSlot>>,
    series: Rc<RequestSeries>,
}

impl AnsweredRequest {
    /// The head of the answer is known.
    ///
    /// A stream is counted now, since it may never end; its duration is recorded when it does.
    #[inline]
    pub(in crate::http) fn new(
        mut progress: Box<RequestSlot>,
        series: Rc<RequestSeries>,
        head: Head,
    ) -> Self {
        if let Timing::Stream { active, .. } = &series.timing {
            series.requests.inc();
            active.inc();
        }
        let delivery = &mut progress.delivery;
        (delivery.promised, delivery.whole_at) = match head.size {
            BodySize::None => (0, 0),
            // HTTP/2 ends an answer apart from its last byte, when the client has made room for that.
            BodySize::Sized(size) if size > 0 && progress.is_http_2 => (size, u64::MAX),
            BodySize::Sized(size) => (size, size),
            BodySize::Stream => (0, u64::MAX),
        };
        // Nothing may follow the head.
        settle_if_whole(&mut progress, &series);
        Self {
            progress: Some(progress),
            series,
        }
    }

    /// What of the body is handed on next: `chunk`, or the first part of it where it is large. Settles the record if that
    /// is the last of the body.
    ///
    /// A body of known size is over with its last byte: waiting for the stream to say so as well would let the
    /// client see the whole answer, and ask for the count, before it is counted.
    #[inline]
    pub(in crate::http) fn hand_on(&mut self, mut chunk: Bytes) -> Bytes {
        if let Some(progress) = &mut self.progress {
            let delivery = &mut progress.delivery;
            if chunk.len() > SLICE_BYTES {
                delivery.rest = Some(chunk.split_off(SLICE_BYTES));
            }
            delivery.is_polled = true;
            delivery.bytes += chunk.len() as u64;
            settle_if_whole(progress, &self.series);
        }
        chunk
    }

    /// What [`hand_on`](Self::hand_on) has left for later.
    #[inline]
    pub(in crate::http) fn take_rest(&mut self) -> Option<Bytes> {
        self.progress.as_mut()?.delivery.rest.take()
    }

    /// The body was asked for and had nothing to give yet.
    #[inline]
    pub(in crate::http) fn polled(&mut self) {
        if let Some(progress) = &mut self.progress {
            progress.delivery.is_polled = true;
        }
    }

    /// The body has ended: the answer is whole, unless its head has promised more.
    #[inline]
    pub(in crate::http) fn complete(&mut self) {
        if let Some(progress) = &mut self.progress {
            if progress.delivery.bytes < progress.delivery.promised {
                self.fail();
            } else {
                settle(progress, &self.series);
            }
        }
    }

    /// The body failed: the status stands, the answer is not whole.
    #[cold]
    pub(in crate::http) fn fail(&mut self) {
        self.end_early(RequestEnding::BodyFailed);
    }

    #[cold]
    fn end_early(&mut self, ending: RequestEnding) {
        if let Some(progress) = &mut self.progress
            && !progress.delivery.is_settled
        {
            if let Some(series) = progress.worker.series_of_ending(&self.series, ending) {
                self.series = series;
            }
            settle(progress, &self.series);
            count_abort(progress, &self.series, "body");
        }
    }

    /// The same as [`RequestSlot::within`].
    #[inline]
    pub(in crate::http) fn within<T>(&mut self, f: impl FnOnce() -> T) -> T {
        match &mut self.progress {
            Some(progress) => progress.within(f),
            None => f(),
        }
    }

    /// Counts a caught panic of the body.
    #[cold]
    pub(in crate::http) fn panicked(&mut self, payload: &(dyn Any + Send)) {
        if let Some(progress) = &self.progress {
            progress.panicked(&self.series.route.pattern, payload);
        }
        self.fail();
    }

    /// Another answer is sent in place of this one.
    #[cold]
    fn replaced(&mut self) {
        if let Some(progress) = &mut self.progress {
            settle(progress, &self.series);
        }
    }

    /// The answer is given up before it is whole.
    #[cold]
    fn give_up(&mut self, is_polled: bool) {
        if self.series.is_stream() {
            // It has no end of its own: its client's leaving is one.
            self.complete();
        } else if is_polled {
            self.end_early(RequestEnding::ClientLeft);
        } else if self
            .progress
            .as_ref()
            .is_some_and(|progress| !progress.is_http_2)
        {
            // Over HTTP/1 the head and the body go out together. So a middleware outside has put another body in its place,
            // and what the head says is the best that is known.
            self.replaced();
        } else if let Some(progress) = self.progress.take() {
            // Nobody ever asked for the body: the head did not go out either (HTTP/2, a stream that was reset).
            let outcome = RequestOutcome::abandoned(self.series.route.method);
            abandon(progress, &self.series.route.pattern, outcome);
        }
    }
}

impl Drop for AnsweredRequest {
    #[inline]
    fn drop(&mut self) {
        if let Some(Delivery {
            is_settled: false,
            is_polled,
            ..
        }) = self.progress.as_ref().map(|progress| &progress.delivery)
        {
            self.give_up(*is_polled);
        }
        if let Some(progress) = self.progress.take() {
            progress.end();
        }
    }
}

/// Counts a request whose client left before the head of an answer was sent, under the endpoint with this pattern.
#[cold]
pub(in crate::http) fn abandon(
    mut progress: Box<RequestSlot>,
    pattern: &str,
    outcome: RequestOutcome,
) {
    if let Some(series) = progress.worker.series(pattern, outcome) {
        settle(&mut progress, &series);
        count_abort(&progress, &series, "before_head");
    }
    progress.end();
}

#[inline]
fn settle_if_whole(progress: &mut RequestSlot, series: &RequestSeries) {
    if progress.delivery.bytes >= progress.delivery.whole_at {
        settle(progress, series);
    }
}

/// Counts a request, once.
fn settle(progress: &mut RequestSlot, series: &RequestSeries) {
    if mem::replace(&mut progress.delivery.is_settled, true) {
        return;
    }
    let ended = clock::now();
    let seconds = progress.seconds_until(ended);
    let span = progress.span();
    let route = &series.route;
    match &series.timing {
        Timing::AnsweredRequest { latency } => {
            series.requests.inc();
            latency.observe_with(seconds, span.as_ref());
            if let (None, Some(database)) = (&progress.context, &route.database) {
                database.observe_none(span.as_ref());
            }
            if (progress.worker.recorder.notable).wants(series.status, seconds, ended) {
                keep_notable(progress, series, seconds);
            }
        }
        Timing::Stream { active, duration } => {
            active.dec();
            duration.observe_with(seconds, span.as_ref());
        }
    }
    if let Some(sizes) = &route.sizes {
        let request_bytes = progress.request_body.bytes.get();
        sizes.observe(request_bytes, progress.delivery.bytes);
    }
    if let Some(context) = progress.context.take() {
        attribute(progress, series, context);
    }
}

#[cold]
fn keep_notable(progress: &RequestSlot, series: &RequestSeries, seconds: f64) {
    let context = progress.context.as_deref();
    progress.worker.recorder.notable.keep(NotableRequest {
        at: SystemTime::now(),
        method: series.route.method,
        endpoint: Arc::clone(&series.route.endpoint),
        status: series.status.as_u16(),
        seconds,
        database_seconds: context.map_or(0.0, |context| context.database_time().as_secs_f64()),
        queries: context.map_or(0, RequestContext::queries),
        trace_id: progress.trace.as_ref().map(|trace| trace.id()),
    });
}

/// Observes what the request has asked of the database, when nobody works for it any more.
///
/// That is now, as a rule. Where a client has left, or the handler has given up waiting, a query may still run.
fn attribute(progress: &RequestSlot, series: &RequestSeries, context: Arc<RequestContext>) {
    let (recorder, route) = (&progress.worker.recorder, &series.route);
    let log_span = progress.trace.as_ref().map(|trace| &trace.log_span);
    // Not of a stream: it asks as long as it lasts.
    let database = (route.database.as_ref()).filter(|_| !series.is_stream());
    if Arc::strong_count(&context) == 1 {
        if let Some(database) = database {
            database.observe(&context);
        }
        let is_new = |shape| route.statements.is_first(shape);
        recorder.attribute(route.method, &route.endpoint, &context, is_new, log_span);
        return;
    }
    let observe = database.map(DatabaseUse::late);
    let (recorder, log_span) = (Arc::clone(recorder), log_span.cloned());
    let (method, endpoint) = (route.method, Arc::clone(&route.endpoint));
    context.when_done(move |context| {
        if let Some(observe) = &observe {
            observe(context);
        }
        recorder.attribute(method, &endpoint, context, |_| true, log_span.as_ref());
    });
}

#[cold]
fn count_abort(progress: &RequestSlot, series: &RequestSeries, phase: &str) {
    let (families, route) = (&progress.worker.recorder.families, &series.route);
    families.count_abort(route.method, &route.endpoint, phase);
}
