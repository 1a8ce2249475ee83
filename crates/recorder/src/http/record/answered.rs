//! The record of a request from the head of its answer on. It counts the request, exactly once.
//!
//! It moves with the body. It is settled at the body's last byte, its end, its error or its panic, and at the latest when
//! it is dropped, so that each request is counted.

use std::{
    any::Any,
    mem,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix_web::{body::BodySize, http::StatusCode, web::Bytes};
use vitals_registry::Histogram;

use crate::{
    clock::{self, Moment},
    context::RequestContext,
    http::{
        insight::{
            causes::{FailureCause, FailureKind},
            kept::{KeepReason, KeepReasons, KeptId, Rank},
            notable::NotableRequest,
            timeline::{KeptEnding, KeptFacts, KeptRequest},
        },
        record::slot::{EnteredParts, RequestSlot},
        series::cache::{
            DatabaseUse, RequestEnding, RequestOutcome, RequestSeries, Timing, seconds,
        },
    },
    in_flight::RequestState,
    repetition::RanStatements,
};

/// The most bytes that are handed on at once.
///
/// A connection asks for more when it has sent most of what it has. With slices, a body ends when its last bytes are
/// about to be sent, and not when the handler has returned it.
pub(in crate::http) const SLICE_BYTES: usize = 32 * 1024;

/// The head of an answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Head {
    pub(in crate::http) status: StatusCode,
    /// The size of the bytes that are sent.
    pub(in crate::http) size: BodySize,
    /// Whether the body is an unbounded stream.
    pub(in crate::http) is_stream: bool,
}

impl Head {
    /// Returns the head of an answer with a body of this size. Some answers have no body at all.
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

/// A request whose answer has begun. The default is one of which nothing is recorded any more.
#[derive(Debug, Default)]
pub(in crate::http) struct AnsweredRequest {
    /// None once the request has ended, and if it is not recorded. The series are in the slot, so that one pointer moves with the body.
    slot: Option<Box<RequestSlot>>,
}

impl AnsweredRequest {
    /// Begins the answer. A stream is counted now, because it may never end; its duration is recorded when it does.
    #[inline]
    pub(in crate::http) fn new(
        mut slot: Box<RequestSlot>,
        series: Rc<RequestSeries>,
        head: Head,
    ) -> Self {
        if series.is_stream() {
            series.begin_stream();
        }
        slot.series = Some(series);
        let delivery = &mut slot.delivery;
        (delivery.promised, delivery.whole_at) = match head.size {
            BodySize::None => (0, 0),
            // HTTP/2 ends an answer after its last byte, when the client's window allows.
            BodySize::Sized(size) if size > 0 && slot.is_http_2 => (size, u64::MAX),
            BodySize::Sized(size) => (size, size),
            BodySize::Stream => (0, u64::MAX),
        };
        // An answer without a body ends here.
        settle_if_whole(&mut slot);
        if !slot.delivery.is_settled {
            slot.pause_loop(RequestState::Sending);
        }
        Self { slot: Some(slot) }
    }

    /// Notes when the head was there, unless a small body is handed on with it. Over HTTP/2, any body may have to wait for
    /// its client's window.
    #[inline]
    pub(in crate::http) fn begin_body(&mut self, is_small: bool) {
        if let Some(slot) = &mut self.slot
            && !slot.delivery.is_settled
            && (!is_small || slot.is_http_2)
        {
            slot.note_head();
        }
    }

    /// Returns the part of `chunk` to hand on next: all of it, or its beginning if it is large. Settles the record if this
    /// is the end of the body.
    ///
    /// A body of known size ends with its last byte. If the record waited for the end of the stream, a client could have
    /// the whole answer, and read the metrics, before its request is counted.
    #[inline]
    pub(in crate::http) fn hand_on(&mut self, mut chunk: Bytes) -> Bytes {
        if let Some(slot) = &mut self.slot {
            let delivery = &mut slot.delivery;
            if chunk.len() > SLICE_BYTES {
                delivery.rest = Some(chunk.split_off(SLICE_BYTES));
            }
            delivery.is_polled = true;
            delivery.bytes += chunk.len() as u64;
            settle_if_whole(slot);
            if !slot.delivery.is_settled {
                slot.list_bytes();
            }
        }
        chunk
    }

    /// Notes that a slice of a body in memory, with this many bytes, is handed on. Settles the record if this is the end of
    /// the body, and returns whether it is settled.
    #[inline]
    pub(in crate::http) fn hand_on_slice(&mut self, bytes: usize) -> bool {
        let Some(slot) = &mut self.slot else {
            return false;
        };
        let delivery = &mut slot.delivery;
        delivery.is_polled = true;
        delivery.bytes += bytes as u64;
        if delivery.bytes >= delivery.whole_at {
            settle_now(slot);
            return true;
        }
        slot.list_bytes();
        false
    }

    /// Whether anything is recorded.
    #[inline]
    pub(in crate::http) fn is_recorded(&self) -> bool {
        self.slot.is_some()
    }

    /// Takes the rest of a chunk that [`hand_on`](Self::hand_on) has split.
    #[inline]
    pub(in crate::http) fn take_rest(&mut self) -> Option<Bytes> {
        self.slot.as_mut()?.delivery.rest.take()
    }

    /// Notes that the body is polled.
    #[inline]
    pub(in crate::http) fn enter_loop(&mut self) {
        if let Some(slot) = &mut self.slot
            && !slot.delivery.is_settled
        {
            slot.enter_loop();
        }
    }

    /// Notes that the poll of the body has returned, with a chunk that the client must take, or without.
    #[inline]
    pub(in crate::http) fn leave_loop(&mut self, has_chunk: bool) {
        if let Some(slot) = &mut self.slot
            && !slot.delivery.is_settled
        {
            // The body may have been in memory, so that nothing was polled since the head.
            slot.end_pause();
            if is_stream(slot) {
                slot.leave_stream(has_chunk);
            } else if has_chunk {
                slot.leave_loop(RequestState::Sending);
            } else {
                slot.leave_loop(RequestState::Awaiting);
            }
        }
    }

    /// Notes that the connection asked for the body, which had nothing yet.
    #[inline]
    pub(in crate::http) fn polled(&mut self) {
        if let Some(slot) = &mut self.slot {
            slot.delivery.is_polled = true;
        }
    }

    /// Ends the body. The answer is complete unless its head has promised more.
    #[inline]
    pub(in crate::http) fn complete(&mut self) {
        if let Some(slot) = &mut self.slot {
            if slot.delivery.bytes < slot.delivery.promised {
                self.fail();
            } else if !slot.delivery.is_settled {
                settle(slot);
            }
        }
    }

    /// Ends the body with an error. The status stays; the answer is incomplete.
    #[cold]
    pub(in crate::http) fn fail(&mut self) {
        self.end_early(RequestEnding::BodyFailed);
    }

    #[cold]
    fn end_early(&mut self, ending: RequestEnding) {
        if let Some(slot) = &mut self.slot
            && !slot.delivery.is_settled
        {
            let series = slot.series.as_ref();
            if let Some(series) = series.and_then(|it| slot.worker.series_of_ending(it, ending)) {
                slot.series = Some(series);
            }
            slot.delivery.ending = ending;
            settle(slot);
            count_abort(slot, "body");
        }
    }

    /// The same as [`RequestSlot::entered_parts`]; `None` if the request has ended.
    #[inline]
    pub(in crate::http) fn entered_parts(&mut self) -> Option<EnteredParts<'_>> {
        self.slot.as_mut().map(|slot| slot.entered_parts())
    }

    /// Counts a caught panic of the body.
    #[cold]
    pub(in crate::http) fn panicked(&mut self, payload: &(dyn Any + Send)) {
        if let Some(slot) = &self.slot
            && let Some(series) = &slot.series
        {
            slot.panicked(&series.route.pattern, payload);
        }
        self.fail();
    }

    /// Settles an answer that another one replaces.
    #[cold]
    fn replaced(&mut self) {
        if let Some(slot) = &mut self.slot {
            settle(slot);
        }
    }

    /// Settles an answer that is dropped before it is complete.
    #[cold]
    fn cut_off(&mut self, is_polled: bool) {
        if self.slot.as_deref().is_some_and(is_stream) {
            // A stream has no other end than its client's leaving.
            self.complete();
        } else if is_polled {
            self.end_early(RequestEnding::ClientLeft);
        } else if self.slot.as_ref().is_some_and(|slot| !slot.is_http_2) {
            // Over HTTP/1 the head and the body are sent together. So an outer middleware has replaced the body, and the
            // head is the best that is known.
            self.replaced();
        } else if let Some(mut slot) = self.slot.take()
            && let Some(series) = slot.series.take()
        {
            // Over HTTP/2, a stream that was reset before its head was sent.
            let outcome = RequestOutcome::abandoned(series.route.method);
            abandon(slot, &series.route.pattern, outcome);
        }
    }
}

impl Drop for AnsweredRequest {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = &self.slot {
            if !slot.delivery.is_settled {
                self.cut_off(slot.delivery.is_polled);
            }
            if let Some(slot) = self.slot.take() {
                slot.end();
            }
        }
    }
}

/// Counts a request whose client left before the head of an answer was sent, under the endpoint with this pattern.
#[cold]
pub(in crate::http) fn abandon(mut slot: Box<RequestSlot>, pattern: &str, outcome: RequestOutcome) {
    if let Some(series) = slot.worker.series(pattern, outcome) {
        slot.delivery.ending = outcome.ending;
        slot.series = Some(series);
        settle(&mut slot);
        count_abort(&slot, "before_head");
    }
    slot.end();
}

#[inline]
fn settle_if_whole(slot: &mut RequestSlot) {
    if slot.delivery.bytes >= slot.delivery.whole_at {
        settle(slot);
    }
}

fn is_stream(slot: &RequestSlot) -> bool {
    slot.series
        .as_ref()
        .is_some_and(|series| series.is_stream())
}

/// Counts a request and records its duration, once. Apart from the common path, which has its own copy.
#[inline(never)]
fn settle(slot: &mut RequestSlot) {
    settle_now(slot);
}

/// The same as [`settle`].
#[inline]
fn settle_now(slot: &mut RequestSlot) {
    if mem::replace(&mut slot.delivery.is_settled, true) {
        return;
    }
    let ended = clock::now();
    let on_loop = slot.settle_loop(ended);
    if let Some(series) = slot.series.take() {
        record(slot, &series, ended, on_loop);
        slot.series = Some(series);
    }
}

/// Records a request that has ended, with the nanoseconds for which it kept the event loop busy.
#[inline]
fn record(slot: &mut RequestSlot, series: &RequestSeries, ended: Moment, on_loop: u64) {
    let took = slot.nanoseconds_until(ended);
    let seconds = seconds(took);
    let is_database_used = slot.context.as_ref().is_some_and(RequestContext::is_used);
    let span = slot.span();
    let route = &series.route;
    match &series.timing {
        Timing::Answer(latency) => {
            series.requests.inc();
            latency.observe(route, (took, on_loop), span.as_ref());
            if !is_database_used && let Some(database) = &route.database {
                database.observe_none(span.as_ref());
            }
        }
        Timing::Stream { .. } => series.end_stream((took, on_loop), span.as_ref()),
    }
    if let Some(sizes) = &route.sizes {
        sizes.observe(slot.request_bytes(), slot.delivery.bytes);
    }
    if let Some(allocated) = &route.allocated {
        observe_allocated(slot, series, allocated);
    }
    let end = RequestEnd {
        ended,
        seconds,
        on_loop,
        is_suspected: false,
    };
    if is_database_used {
        attribute(slot, series, end);
    } else {
        keep_if_wanted(slot, series, &end);
    }
}

/// Observes the bytes that were allocated for a request, unless code still works for it: that code observes them at its end.
/// A stream is left out: it may allocate as long as it lasts.
#[cold]
fn observe_allocated(slot: &RequestSlot, series: &RequestSeries, allocated: &Histogram) {
    let context = slot.context.as_ref();
    let context = context.filter(|context| !RequestContext::is_shared(context));
    let bytes = context.map(|context| context.take_allocated());
    if let Some(bytes) = bytes.filter(|_| !series.is_stream()) {
        allocated.observe(bytes as f64);
    }
}

/// How a request has ended.
#[derive(Clone, Copy, Debug)]
struct RequestEnd {
    ended: Moment,
    seconds: f64,
    /// The nanoseconds of all polls.
    on_loop: u64,
    /// Whether it is suspected of an N+1 loop.
    is_suspected: bool,
}

/// Keeps the request, if it is notable or was chosen. How long a stream lasts is up to its client, so none is slow.
#[inline]
fn keep_if_wanted(slot: &RequestSlot, series: &RequestSeries, end: &RequestEnd) {
    let recorder = &slot.worker.recorder;
    let rank = Rank {
        ended: end.ended,
        random: slot.worker.random.next(),
    };
    let is_stream = series.is_stream();
    let chosen = match (recorder.kept.is_on(), is_stream) {
        (true, false) => series.route.selection.consider(rank, end.seconds),
        (true, true) => series.route.selection.consider_stream(rank),
        (false, _) => KeepReasons::default(),
    };
    let is_slow = !is_stream && recorder.notable.is_slow(end.seconds, end.ended);
    let is_conspicuous = end.is_suspected || slot.polls.has_stalled || slot.span().is_some();
    let is_failed = series.is_server_error || slot.delivery.ending != RequestEnding::Whole;
    if is_slow || is_conspicuous || is_failed || !chosen.is_empty() {
        keep(slot, series, end, (chosen, rank), (is_slow, is_failed));
    }
}

/// Keeps a request that is notable, failed or has a reason to be kept. `chosen` are the reasons by its endpoint.
#[cold]
fn keep(
    slot: &RequestSlot,
    series: &RequestSeries,
    end: &RequestEnd,
    (chosen, rank): (KeepReasons, Rank),
    (is_slow, is_failed): (bool, bool),
) {
    let recorder = &slot.worker.recorder;
    let mut reasons = chosen;
    if recorder.kept.is_on() {
        reasons.add(KeepReason::Failed, is_failed);
        reasons.add(KeepReason::Slow, is_slow);
        reasons.add(KeepReason::NPlusOne, end.is_suspected);
        reasons.add(KeepReason::Stall, slot.polls.has_stalled);
        reasons.add(KeepReason::Sampled, slot.span().is_some());
    }
    let is_notable = is_slow || series.is_server_error;
    let (kept, tick) = (&recorder.kept, recorder.loop_watch.tick());
    let reasons = kept.allow(reasons, &series.route.endpoint, tick);
    let cause = is_failed.then(|| cause(slot));
    let request = (!reasons.is_empty())
        .then(|| timeline(slot, series, end, cause.clone()))
        .and_then(|request| kept.keep(request, reasons, rank));
    if is_notable {
        let id = request.as_ref().map(|request| request.id);
        keep_notable(slot, series, end.seconds, id);
    }
    if let Some(cause) = cause {
        let (route, status) = (&series.route, series.status.as_u16());
        (recorder.failures).add(route.method, &route.endpoint, status, cause, request);
    }
}

/// Why the request failed.
#[cold]
fn cause(slot: &RequestSlot) -> FailureCause {
    let of_ending = match ending(slot) {
        KeptEnding::Complete => FailureKind::Answer,
        ending => FailureKind::Ending(ending),
    };
    let noted = slot.cause();
    let mut cause = noted.unwrap_or_else(|| FailureCause::of_kind(of_ending));
    cause.database_error = slot
        .context
        .as_ref()
        .and_then(|known| known.database_error());
    cause
}

fn ending(slot: &RequestSlot) -> KeptEnding {
    match slot.delivery.ending {
        RequestEnding::Whole => KeptEnding::Complete,
        RequestEnding::NoHead => KeptEnding::NoHead,
        RequestEnding::ClientLeft => KeptEnding::ClientLeft,
        RequestEnding::BodyFailed => KeptEnding::BodyFailed,
    }
}

#[cold]
fn timeline(
    slot: &RequestSlot,
    series: &RequestSeries,
    end: &RequestEnd,
    cause: Option<FailureCause>,
) -> KeptRequest {
    let facts = KeptFacts {
        method: series.route.method,
        endpoint: Arc::clone(&series.route.endpoint),
        scheme: slot.worker.scheme(),
        status: series.status.as_u16(),
        ending: ending(slot),
        cause,
        trace: slot.trace.as_ref().map(|trace| trace.parent()),
        sent_bytes: slot.delivery.bytes,
        loop_time: Duration::from_nanos(end.on_loop),
        started: slot.started,
        ended: end.ended,
    };
    let id = slot.worker.recorder.kept.new_id();
    KeptRequest::new(id, facts, &slot.polls, slot.context.as_deref())
}

#[cold]
fn keep_notable(slot: &RequestSlot, series: &RequestSeries, seconds: f64, kept: Option<KeptId>) {
    let context = slot.context.as_deref();
    slot.worker.recorder.notable.keep(NotableRequest {
        at: SystemTime::now(),
        method: series.route.method,
        endpoint: Arc::clone(&series.route.endpoint),
        status: series.status.as_u16(),
        seconds,
        database_seconds: context.map_or(0.0, |context| context.database_time().as_secs_f64()),
        queries: context.map_or(0, RequestContext::queries),
        trace_id: slot.trace.as_ref().map(|trace| trace.id()),
        kept,
    });
}

/// Observes the queries and holds of a request that has ended, and keeps the request if it is wanted.
fn attribute(slot: &mut RequestSlot, series: &RequestSeries, mut end: RequestEnd) {
    let Some(context) = &slot.context else {
        return;
    };
    if RequestContext::is_shared(context) {
        end.is_suspected = slot.worker.recorder.suspects(context);
        keep_if_wanted(slot, series, &end);
        attribute_later(slot, series);
        return;
    }
    let (recorder, route) = (&slot.worker.recorder, &series.route);
    if let Some(database) = database_use(series) {
        database.observe(context);
    }
    let log_span = slot.trace.as_ref().map(|trace| &trace.log_span);
    let ran = &route.statements;
    end.is_suspected = recorder.attribute(route.method, &route.endpoint, context, ran, log_span);
    for (pool, held) in context.take_held() {
        route.held_seconds.add(pool, &route.endpoint, held);
    }
    keep_if_wanted(slot, series, &end);
}

/// The families of the queries of a request. A stream is left out: it may run queries as long as it lasts.
fn database_use(series: &RequestSeries) -> Option<&DatabaseUse> {
    let database = series.route.database.as_ref();
    database.filter(|_| !series.is_stream())
}

/// Observes the queries and holds of a request once all work for it has ended. The client has left, or the handler has stopped
/// waiting, while a query still runs.
#[cold]
fn attribute_later(slot: &mut RequestSlot, series: &RequestSeries) {
    let Some(context) = slot.take_shared_context() else {
        return;
    };
    let (recorder, route) = (&slot.worker.recorder, &series.route);
    let log_span = slot.trace.as_ref().map(|trace| trace.log_span.clone());
    let observe = database_use(series).map(DatabaseUse::late);
    let recorder = Arc::clone(recorder);
    let (method, endpoint) = (route.method, Arc::clone(&route.endpoint));
    let allocated = route.allocated.clone().filter(|_| !series.is_stream());
    context.when_done(move |context| {
        if let Some(allocated) = &allocated {
            allocated.observe(context.take_allocated() as f64);
        }
        if let Some(observe) = &observe {
            observe(context);
        }
        for (pool, held) in context.take_held() {
            pool.add(&endpoint, held);
        }
        let ran = RanStatements::default();
        recorder.attribute(method, &endpoint, context, &ran, log_span.as_ref());
    });
}

#[cold]
fn count_abort(slot: &RequestSlot, phase: &str) {
    if let Some(series) = &slot.series {
        let (families, route) = (&slot.worker.recorder.families, &series.route);
        families.count_abort(route.method, &route.endpoint, phase);
    }
}
