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
    body::{MonitoredBody, count_payload},
    failure::Failure,
    labels::unrouted_endpoint,
    record::{Record, Recorder, Worker},
};
use crate::vitals::{problem::Problem, runtime::Runtime};

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
        let worker = Rc::new(Worker::new(Arc::clone(&self.recorder)));
        ready(Ok(MonitorService { service, worker }))
    }
}

/// The service that [`Monitor`] makes: one for each worker thread.
#[derive(Debug)]
pub struct MonitorService<S> {
    service: S,
    worker: Rc<Worker>,
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
        let record = (!self.worker.excludes(&request)).then(|| {
            let mut record = Record::open(&self.worker, &request);
            count_payload(&mut request, &mut record);
            record
        });
        // The synchronous part of a call runs routing, guards and the start of inner middlewares.
        match catch_unwind(AssertUnwindSafe(|| self.service.call(request))) {
            Ok(future) => MonitorFuture {
                future: Some(future),
                record,
                panic: None,
            },
            Err(panic) => MonitorFuture {
                future: None,
                record,
                panic: Some(panic),
            },
        }
    }
}

pin_project! {
    /// A request being served.
    pub struct MonitorFuture<F> {
        #[pin]
        future: Option<F>,
        record: Option<Record>,
        panic: Option<Box<dyn Any + Send>>,
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
            Some(future) => catch_unwind(AssertUnwindSafe(|| match this.record {
                Some(record) => record.within(|| future.poll(cx)),
                None => future.poll(cx),
            })),
            None => Err(this
                .panic
                .take()
                .unwrap_or_else(|| Box::new("polled after its end"))),
        };
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => {
                // A future that panicked is not to be polled again.
                this.future.set(None);
                if let Some(record) = this.record {
                    record.panicked(&*panic);
                }
                Err(Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The server met a fault of its own; its operator finds the cause in the log.",
                )
                .into())
            }
        };
        let Some(mut record) = this.record.take() else {
            let pass = |response: ServiceResponse<B>| {
                response.map_body(|_, body| MonitoredBody::new(body, None))
            };
            return Poll::Ready(result.map(pass));
        };
        Poll::Ready(match result {
            Ok(mut response) => {
                record.complete_head(response.headers_mut());
                answer(&mut record, &response);
                Ok(response.map_body(|_, body| MonitoredBody::new(body, Some(record))))
            }
            Err(error) => Err(Failure::new(error, record).into()),
        })
    }
}

/// Tells the record what the head of the answer says.
fn answer<B: MessageBody>(record: &mut Record, response: &ServiceResponse<B>) {
    let (request, status, size) = (
        response.request(),
        response.status(),
        response.response().body().size(),
    );
    let is_stream = matches!(size, BodySize::Stream) && is_stream(response);
    match request.match_pattern() {
        Some(pattern) if pattern.is_empty() => record.answer(Some("/"), status, size, is_stream),
        Some(pattern) => record.answer(Some(&pattern), status, size, is_stream),
        None => {
            let endpoint = unrouted_endpoint(request.match_info(), status);
            record.answer(Some(&endpoint), status, size, is_stream);
        }
    }
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
