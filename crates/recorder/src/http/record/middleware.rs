//! The Actix middleware: opens a record for each request, polls the service within a net that catches panics, and
//! hands the record on to the response's body or to the error.

use std::{
    any::{Any, type_name},
    error::Error as StdError,
    future::{Future, Ready, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{
    Error,
    body::{BodySize, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::{Method, StatusCode, header},
};
use pin_project_lite::pin_project;

use crate::http::{
    record::answered::{Head, has_no_body},
    record::body::{MonitoredBody, watch_payload},
    record::error::{RecordedError, fault},
    record::open::OpenRecord,
    record::slot::RequestSlots,
    recorder::{NOBODY, RequestRecorder, SERVED_FOR},
    worker::WorkerRecorder,
};
use crate::{context, runtime::Runtime};

/// Marks a response as an unbounded stream: `response.extensions_mut().insert(Stream)`.
///
/// Server-sent events (`text/event-stream`) and protocol upgrades (status 101) need no mark. A stream is counted in
/// `http_requests_total` when it starts, and kept out of the latency histogram; see `http_streams_active` and
/// `http_stream_duration_seconds`.
#[derive(Clone, Copy, Debug)]
pub struct Stream;

/// The middleware that records every request: `App::new().wrap(vitals.http())`.
///
/// Wrap it last, so that it stands outermost: what another middleware answers, or fails with, is then recorded too.
/// A panic in a handler or in a middleware within becomes a 500 with a problem document, and the connection lives on.
///
/// Wrap the application once. A second one within, on a scope or a resource, passes its requests on unrecorded.
#[derive(Clone, Debug)]
pub struct Monitor {
    recorder: Arc<RequestRecorder>,
    runtime: Runtime,
}

impl Monitor {
    /// Returns a middleware that records into `recorder`, and registers its threads as workers with `runtime`.
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
        // Actix' own middleware for that is the common one. Others are noticed when they have changed a path.
        let rewrites_paths = type_name::<S>().contains("NormalizePath");
        let worker = WorkerRecorder::new(Arc::clone(&self.recorder), rewrites_paths);
        let places = Rc::new(RequestSlots::new(worker));
        ready(Ok(MonitorService { service, places }))
    }
}

/// The service that [`Monitor`] makes: one for each worker thread.
#[derive(Debug)]
pub struct MonitorService<S> {
    service: S,
    places: Rc<RequestSlots>,
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
        let recorder = &self.places.worker.recorder;
        let recorder_id = recorder.id();
        let outer_id = SERVED_FOR.replace(recorder_id);
        if outer_id == recorder_id {
            recorder.warn_of_nesting();
            return MonitorFuture {
                future: Some(self.service.call(request)),
                record: None,
                recorder_id: NOBODY,
            };
        }
        let mut record = (!recorder.excludes_all()).then(|| {
            let record = OpenRecord::open(&self.places, &request);
            watch_payload(&mut request, &record);
            record
        });
        // The synchronous part of a call runs routing, guards and the start of inner middlewares.
        let called = catch_unwind(AssertUnwindSafe(|| {
            within(&mut record, || self.service.call(request))
        }));
        SERVED_FOR.set(outer_id);
        MonitorFuture {
            future: called.map_err(|panic| tell(record.as_ref(), &*panic)).ok(),
            record,
            recorder_id,
        }
    }
}

/// Runs `f` as part of the request. An excluded request has no record, but its queries are still those of a request: they
/// go to a context that is never read.
#[inline]
fn within<T>(record: &mut Option<OpenRecord>, f: impl FnOnce() -> T) -> T {
    match record {
        Some(record) => record.within(f),
        None => context::within(&mut None, f),
    }
}

/// Tells of a caught panic.
#[cold]
fn tell(record: Option<&OpenRecord>, panic: &(dyn Any + Send)) {
    if let Some(record) = record {
        record.panicked(panic);
    }
}

pin_project! {
    /// A request being served.
    pub struct MonitorFuture<F> {
        // None after a panic: such a future is not to be polled again.
        #[pin]
        future: Option<F>,
        record: Option<OpenRecord>,
        // `NOBODY` if an outer middleware records the request.
        recorder_id: usize,
    }

    impl<F> PinnedDrop for MonitorFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // No answer yet: queries that the handler runs in its drop belong to the request, too.
            if this.record.is_some() {
                within(this.record, || this.future.set(None));
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
            return Poll::Ready(Err(fail(this.record.take(), fault().into())));
        };
        if *this.recorder_id == NOBODY {
            let polled = future.poll(cx);
            return polled
                .map_ok(|response| response.map_body(|_, body| MonitoredBody::passed(body)));
        }
        let outer_id = SERVED_FOR.replace(*this.recorder_id);
        let polled = catch_unwind(AssertUnwindSafe(|| within(this.record, || future.poll(cx))));
        SERVED_FOR.set(outer_id);
        let error = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(response))) => {
                return Poll::Ready(Ok(answer(this.record.take(), response)));
            }
            Ok(Poll::Ready(Err(error))) => error,
            Err(panic) => {
                this.future.set(None);
                tell(this.record.as_ref(), &*panic);
                fault().into()
            }
        };
        Poll::Ready(Err(fail(this.record.take(), error)))
    }
}

/// The error with its request's record.
#[cold]
fn fail(record: Option<OpenRecord>, error: Error) -> Error {
    match record {
        Some(record) => RecordedError::new(error, record).into(),
        None => error,
    }
}

/// Tells the record what the head of the answer says, and sends it along with the body.
fn answer<B: MessageBody>(
    record: Option<OpenRecord>,
    mut response: ServiceResponse<B>,
) -> ServiceResponse<MonitoredBody<B>> {
    let status = response.status();
    let is_head = response.request().method() == Method::HEAD;
    let answer = record.and_then(|record| {
        record.complete_head(|| response.headers_mut());
        let mut head = Head::new(status, response.response().body().size(), is_head);
        head.is_stream = matches!(head.size, BodySize::Stream) && is_stream(&response);
        record.answer(Some(response.request()), head)
    });
    response.map_body(|_, body| {
        if has_no_body(status) {
            MonitoredBody::omitted(BodySize::None, answer)
        } else if is_head {
            MonitoredBody::omitted(body.size(), answer)
        } else {
            MonitoredBody::new(body, answer)
        }
    })
}

/// Whether the response has no end of its own.
fn is_stream<B>(response: &ServiceResponse<B>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || response.response().extensions().contains::<Stream>()
        || response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|content_type| is_event_stream(content_type.as_bytes()))
}

/// Whether a content type is that of server-sent events: a media type's case does not matter, nor do its parameters
/// (RFC 9110, section 8.3.1).
fn is_event_stream(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next();
    media_type.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_known_in_any_case_and_with_any_parameters() {
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
