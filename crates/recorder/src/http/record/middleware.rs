//! The Actix middleware. It opens a record for each request, catches panics of the service, and moves the record on: with
//! the response's body, or within the error.

use std::{
    any::type_name,
    error::Error as StdError,
    future::{Future, Ready, ready},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{
    Error, HttpResponse,
    body::{BodySize, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::{Method, StatusCode, header},
};
use pin_project_lite::pin_project;

use crate::{
    context::RequestContext,
    http::{
        record::{
            answered::{Head, has_no_body},
            body::{MonitoredBody, watch_payload},
            error::{RecordedError, panic_problem},
            open::OpenRecord,
            slot::{EnteredRequest, RequestSlots},
        },
        recorder::{NOBODY, RequestRecorder, SERVED_FOR},
        worker::WorkerRecorder,
    },
    runtime::Runtime,
};

/// Marks a response as an unbounded stream: `response.extensions_mut().insert(Stream)`.
///
/// Server-sent events (`text/event-stream`) and protocol upgrades (status 101) need no mark. A stream is counted in
/// `http_requests_total` when it starts. It is not in the latency histogram; see `http_streams_active` and
/// `http_stream_duration_seconds`.
#[derive(Clone, Copy, Debug)]
pub struct Stream;

/// The middleware that records every request: `App::new().wrap(vitals.http())`.
///
/// Wrap it last, so that it is the outermost middleware. Then it also records answers and errors of other middlewares.
/// A panic in a handler or an inner middleware becomes a 500 with a problem document, and the connection stays open.
///
/// Wrap the application once. A second one on a scope or a resource within passes requests on unrecorded.
#[derive(Clone, Debug)]
pub struct Monitor {
    recorder: Arc<RequestRecorder>,
    runtime: Runtime,
}

impl Monitor {
    /// Returns a middleware that records into `recorder` and registers its threads as workers with `runtime`.
    pub fn new(recorder: Arc<RequestRecorder>, runtime: Runtime) -> Self {
        Self { recorder, runtime }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Monitor
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody,
    B::Error: Into<Box<dyn StdError>>,
{
    type Response = ServiceResponse<MonitoredBody<B>>;
    type Error = Error;
    type Transform = MonitorService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, Self::InitError>>;

    fn new_transform(&self, service: S) -> Self::Future {
        self.runtime.register_worker();
        self.recorder.watch_loops();
        // Actix' own middleware for this is the common one. Others are noticed once they have changed a path.
        let rewrites_paths = type_name::<S>().contains("NormalizePath");
        let number = self.runtime.worker_of_this_thread();
        let worker = WorkerRecorder::new(Arc::clone(&self.recorder), rewrites_paths, number);
        let slots = Rc::new(RequestSlots::new(worker));
        ready(Ok(MonitorService { service, slots }))
    }
}

/// The service that [`Monitor`] creates, one for each worker thread.
#[derive(Debug)]
pub struct MonitorService<S> {
    service: S,
    slots: Rc<RequestSlots>,
}

impl<S, B> Service<ServiceRequest> for MonitorService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody,
    B::Error: Into<Box<dyn StdError>>,
{
    type Response = ServiceResponse<MonitoredBody<B>>;
    type Error = Error;
    type Future = MonitorFuture<S::Future>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let recorder = &self.slots.worker.recorder;
        let recorder_id = recorder.id();
        let outer_id = SERVED_FOR.replace(recorder_id);
        if outer_id == recorder_id {
            recorder.warn_of_nesting();
            return MonitorFuture {
                future: Some(self.service.call(request)),
                record: OpenRecord::default(),
                recorder_id: NOBODY,
            };
        }
        let mut record = if recorder.excludes_all() {
            OpenRecord::default()
        } else {
            OpenRecord::open(&self.slots, &request)
        };
        watch_payload(&mut request, &mut record);
        // The synchronous part of a call runs routing, guards and the beginning of inner middlewares.
        let called = {
            let mut unrecorded = None;
            let _entered = enter(&mut record, &mut unrecorded);
            catch_unwind(AssertUnwindSafe(|| self.service.call(request)))
        };
        SERVED_FOR.set(outer_id);
        record.pause_loop();
        MonitorFuture {
            future: (called.map_err(|panic| record.panicked(&*panic))).ok(),
            record,
            recorder_id,
        }
    }
}

/// Lets this thread work for the request. An excluded request has no record, and works in a context of its own.
#[inline]
fn enter<'a>(
    record: &'a mut OpenRecord,
    unrecorded: &'a mut Option<Arc<RequestContext>>,
) -> EnteredRequest<'a> {
    EnteredRequest::within(record.entered_parts().unwrap_or((unrecorded, None)))
}

pin_project! {
    /// A request being served.
    pub struct MonitorFuture<F> {
        // None after a panic: the future must not be polled again.
        #[pin]
        future: Option<F>,
        record: OpenRecord,
        // `NOBODY` if an outer middleware records the request.
        recorder_id: usize,
    }

    impl<F> PinnedDrop for MonitorFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // There is no answer yet: queries that the handler runs in its drop belong to the request.
            if this.record.is_open() {
                let mut unrecorded = None;
                let _entered = enter(this.record, &mut unrecorded);
                this.future.set(None);
            }
        }
    }
}

impl<F> std::fmt::Debug for MonitorFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MonitorFuture")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

impl<F, B> Future for MonitorFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<MonitoredBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Ready(Err(fail(mem::take(this.record), panic_problem().into())));
        };
        if *this.recorder_id == NOBODY {
            let polled = future.poll(cx);
            return polled
                .map_ok(|response| response.map_body(|_, body| MonitoredBody::passed(body)));
        }
        let outer_id = SERVED_FOR.replace(*this.recorder_id);
        this.record.enter_loop();
        // The guard is within the code whose panics are caught: outside, a poll takes 5 ns more.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut unrecorded = None;
            let _entered = enter(this.record, &mut unrecorded);
            future.poll(cx)
        }));
        SERVED_FOR.set(outer_id);
        let error = match polled {
            Ok(Poll::Pending) => {
                this.record.leave_loop();
                return Poll::Pending;
            }
            Ok(Poll::Ready(Ok(response))) => {
                return answer(mem::take(this.record), response);
            }
            Ok(Poll::Ready(Err(error))) => error,
            Err(panic) => {
                this.future.set(None);
                this.record.panicked(&*panic);
                panic_problem().into()
            }
        };
        Poll::Ready(Err(fail(mem::take(this.record), error)))
    }
}

/// Wraps an error together with the record of its request.
#[cold]
fn fail(mut record: OpenRecord, error: Error) -> Error {
    if !record.is_open() {
        return error;
    }
    record.leave_loop();
    RecordedError::new(error, record).into()
}

/// Passes the head of the answer to the record, and moves the record into the body.
#[inline]
fn answer<B: MessageBody>(
    record: OpenRecord,
    response: ServiceResponse<B>,
) -> Poll<Result<ServiceResponse<MonitoredBody<B>>, Error>> {
    // In parts, each of which moves once.
    let (request, response) = response.into_parts();
    let (mut response, body) = response.into_parts();
    let status = response.status();
    let is_head = request.method() == Method::HEAD;
    record.complete_head(|| response.headers_mut());
    if status.is_server_error() {
        record.note_failure(response.error());
    }
    let mut head = Head::new(status, body.size(), is_head);
    head.is_stream = matches!(head.size, BodySize::Stream) && is_stream(&response);
    let answer = record.answer(Some(&request), head);
    let finish = |body| Poll::Ready(Ok(ServiceResponse::new(request, response.set_body(body))));
    if has_no_body(status) {
        return finish(MonitoredBody::omitted(BodySize::None, body, answer));
    }
    if is_head {
        return finish(MonitoredBody::omitted(body.size(), body, answer));
    }
    finish(MonitoredBody::new(body, answer))
}

/// Whether the response is an unbounded stream.
#[inline(never)]
fn is_stream<B>(response: &HttpResponse<B>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || response.extensions().contains::<Stream>()
        || response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|content_type| is_event_stream(content_type.as_bytes()))
}

/// Whether a content type is that of server-sent events. Neither the case of a media type nor its parameters matter here
/// (RFC 9110, section 8.3.1).
fn is_event_stream(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next();
    media_type.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_recognised_in_any_case_and_with_any_parameters() {
        for (content_type, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream", true),
            ("TEXT/EVENT-STREAM; charset=utf-8", true),
            ("text/event-stream ;charset=utf-8", true),
            ("text/event-streams", false),
            ("text/event-stream-of-mine", false),
            ("application/json; of=text/event-stream", false),
            ("", false),
        ] {
            let found = is_event_stream(content_type.as_bytes());
            assert_eq!(found, expected, "{content_type}");
        }
    }
}
