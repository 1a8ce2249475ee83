//! The Actix middleware: opens a record for each request, polls the service within a net that catches panics, and
//! hands the record on to the response's body or to the error.

use std::{
    any::Any,
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
    http::{StatusCode, header},
};
use pin_project_lite::pin_project;

use super::{
    answer::Head,
    body::{MonitoredBody, count_payload},
    failure::Failure,
    progress::Places,
    record::Record,
    recorder::Recorder,
    worker::Worker,
};
use crate::vitals::{context, problem::Problem, runtime::Runtime};

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
#[derive(Clone, Debug)]
pub struct Monitor {
    recorder: Arc<Recorder>,
    runtime: Runtime,
}

impl Monitor {
    pub(crate) fn new(recorder: Arc<Recorder>, runtime: Runtime) -> Self {
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
        let worker = Worker::new(Arc::clone(&self.recorder));
        let places = Rc::new(Places::new(worker));
        ready(Ok(MonitorService { service, places }))
    }
}

/// The service that [`Monitor`] makes: one for each worker thread.
#[derive(Debug)]
pub struct MonitorService<S> {
    service: S,
    places: Rc<Places>,
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
        let mut record = (!self.places.worker.excludes(&request)).then(|| {
            let mut record = Record::open(&self.places, &request);
            count_payload(&mut request, &mut record);
            record
        });
        // The synchronous part of a call runs routing, guards and the start of inner middlewares.
        let called = catch_unwind(AssertUnwindSafe(|| {
            within(&mut record, || self.service.call(request))
        }));
        MonitorFuture {
            future: called.map_err(|panic| tell(record.as_ref(), &*panic)).ok(),
            record,
        }
    }
}

/// Runs `f` as part of the request. An excluded request has no record, but its queries are still those of a request: they
/// go to a context that nobody reads.
#[inline]
fn within<T>(record: &mut Option<Record>, f: impl FnOnce() -> T) -> T {
    match record {
        Some(record) => record.within(f),
        None => context::within(&mut None, f),
    }
}

/// Tells of a caught panic.
#[cold]
fn tell(record: Option<&Record>, panic: &(dyn Any + Send)) {
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
        record: Option<Record>,
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
        let polled = match this.future.as_mut().as_pin_mut() {
            Some(future) => {
                catch_unwind(AssertUnwindSafe(|| within(this.record, || future.poll(cx))))
            }
            None => Ok(Poll::Ready(Err(fault()))),
        };
        let error = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(response))) => {
                return Poll::Ready(Ok(answer(this.record.take(), response)));
            }
            Ok(Poll::Ready(Err(error))) => error,
            Err(panic) => {
                this.future.set(None);
                tell(this.record.as_ref(), &*panic);
                fault()
            }
        };
        Poll::Ready(Err(match this.record.take() {
            Some(record) => Failure::new(error, record).into(),
            None => error,
        }))
    }
}

/// What a panic is answered with.
#[cold]
fn fault() -> Error {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The server met a fault of its own; its operator finds the cause in the log.",
    )
    .into()
}

/// Tells the record what the head of the answer says, and sends it along with the body.
fn answer<B: MessageBody>(
    record: Option<Record>,
    mut response: ServiceResponse<B>,
) -> ServiceResponse<MonitoredBody<B>> {
    let answer = record.and_then(|record| {
        record.complete_head(|| response.headers_mut());
        let size = response.response().body().size();
        let head = Head {
            status: response.status(),
            size,
            is_stream: matches!(size, BodySize::Stream) && is_stream(&response),
        };
        record.answer(Some(response.request()), head)
    });
    response.map_body(|_, body| MonitoredBody::new(body, answer))
}

/// Whether the response has no end of its own.
fn is_stream<B>(response: &ServiceResponse<B>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || response.response().extensions().contains::<Stream>()
        || response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|content_type| content_type.as_bytes().starts_with(b"text/event-stream"))
}
