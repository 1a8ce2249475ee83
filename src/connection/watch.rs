//! The wrapper of the application that reports to the connection's state which requests are in service. It rejects requests
//! with too large heads, and gives the others a body with a deadline.
//!
//! A request of HTTP/1 that is rejected here is an outcome of its connection. It does not count as a request, because the
//! monitor does not see it.

use std::{
    future::Future,
    marker::PhantomData,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_http::{
    ConnectionType, HttpMessage as _, Payload, Request, Response, StatusCode, Version,
    body::{BodySize, BoxBody, MessageBody},
};
use actix_service::{Service, ServiceFactory};
use actix_web::web::Bytes;
use futures_core::future::LocalBoxFuture;
use pin_project_lite::pin_project;

use super::{
    closing,
    payload::{BodyReservation, TimedPayload},
    request_extent::BodyLength,
    state::{ConnectionState, RequestRejection},
};

/// Most bytes of a body that are passed on at once. HTTP/1 copies them before it sends them: without this limit, a large body
/// would be in memory twice, and the answer memory would not count the copy.
const SLICE: usize = 32 * 1024;

/// A watched application, or the factory of one. `B` is the body of its answers.
pub(super) struct Watch<S, B> {
    inner: S,
    body: PhantomData<B>,
}

impl<S, B> Watch<S, B> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            body: PhantomData,
        }
    }
}

impl<S, B> ServiceFactory<Request> for Watch<S, B>
where
    S: ServiceFactory<Request, Config = ()>,
    S::Future: 'static,
    S::Error: Into<Response<BoxBody>>,
    S::Response: Into<Response<B>>,
    B: MessageBody,
{
    type Response = Response<WatchedBody<B>>;
    type Error = Response<BoxBody>;
    type Config = ();
    type Service = Watch<S::Service, B>;
    type InitError = S::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, Self::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let service = self.inner.new_service(());
        Box::pin(async move { service.await.map(Watch::new) })
    }
}

impl<S, B> Service<Request> for Watch<S, B>
where
    S: Service<Request>,
    S::Error: Into<Response<BoxBody>>,
    S::Response: Into<Response<B>>,
    B: MessageBody,
{
    type Response = Response<WatchedBody<B>>;
    type Error = Response<BoxBody>;
    type Future = WatchedFuture<S::Future, B>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&self, request: Request) -> Self::Future {
        match request.conn_data::<Rc<ConnectionState>>().cloned() {
            Some(state) => self.serve(state, request),
            None => WatchedFuture::serving(self.inner.call(request), None, None),
        }
    }
}

impl<S, B> Watch<S, B>
where
    S: Service<Request>,
{
    /// Serves a request of the connection with this state.
    pub(super) fn serve(
        &self,
        state: Rc<ConnectionState>,
        mut request: Request,
    ) -> WatchedFuture<S::Future, B> {
        let has_body = !matches!(request.payload(), Payload::None);
        if !state.is_multiplexed() {
            state.body_ends(BodyLength::of(&request, has_body));
        }
        let begun = state.begin(|| measure(&request));
        let is_http_1_0 = request.version() < Version::HTTP_11;
        let asks_for_upgrade = request.head().connection_type() == ConnectionType::Upgrade;
        let in_service = InService {
            state: Rc::clone(&state),
            stalled_at: None,
        };
        if let Err(rejection) = begun {
            if !state.is_multiplexed() {
                return WatchedFuture::rejecting(rejection, in_service);
            }
            // The connection continues, so this counts as a request: `screen` answers it, inside the monitor.
            drop(request.take_payload());
            request.extensions_mut().insert(rejection);
            return WatchedFuture::serving(self.inner.call(request), Some(in_service), None);
        }
        let body = has_body.then(|| {
            let reservation = BodyReservation::default();
            let payload = request.take_payload();
            let payload = Box::pin(TimedPayload::new(payload, state, Rc::clone(&reservation)));
            *request.payload() = Payload::Stream { payload };
            reservation
        });
        let mut served = WatchedFuture::serving(self.inner.call(request), Some(in_service), body);
        served.is_http_1_0 = is_http_1_0;
        served.asks_for_upgrade = asks_for_upgrade;
        served
    }
}

/// The number of a request's headers, and the bytes of its head in the form of HTTP/1.
fn measure(request: &Request) -> (usize, usize) {
    /// `: ` and CR LF.
    const AROUND_HEADER: usize = 4;
    /// Two spaces, the version, CR LF, and the CR LF that ends the head.
    const AROUND_LINE: usize = 14;

    let uri = request.uri();
    let authority = uri.authority().map_or(0, |name| name.as_str().len());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let line = request.method().as_str().len() + authority + path + AROUND_LINE;
    let headers = request.headers().iter();
    headers.fold((0, line), |(count, bytes), (name, value)| {
        let header = name.as_str().len() + value.len() + AROUND_HEADER;
        (count + 1, bytes + header)
    })
}

/// Keeps a request in service until it is dropped.
struct InService {
    state: Rc<ConnectionState>,
    /// The index of its stalled answer.
    stalled_at: Option<usize>,
}

impl InService {
    /// A part of the answer was passed on. HTTP/2 polls for the next part once the peer has room for this one. With HTTP/1
    /// the stream reports what it cannot write.
    fn passed_on(&mut self) {
        if self.state.is_multiplexed() {
            self.stalled_at = Some(self.state.stall());
        }
    }

    /// The next part of the answer was polled for.
    fn polled(&mut self) {
        if let Some(index) = self.stalled_at.take() {
            self.state.resume(index);
        }
    }
}

impl Drop for InService {
    fn drop(&mut self) {
        self.polled();
        self.state.end();
    }
}

pin_project! {
    /// A request that the application answers, or that is rejected.
    pub(super) struct WatchedFuture<F, B> {
        #[pin]
        inner: WatchedInner<F>,
        in_service: Option<InService>,
        // The memory of the request's body, which the application may keep until it has answered.
        reservation: Option<BodyReservation>,
        // HTTP/1.0 has no chunks.
        is_http_1_0: bool,
        // Actix ends the connection after it, and would repeat `Connection: upgrade` in any answer.
        asks_for_upgrade: bool,
        body: PhantomData<B>,
    }
}

pin_project! {
    #[project = WatchedProjection]
    enum WatchedInner<F> {
        Serving { #[pin] future: F },
        Rejecting { rejection: RequestRejection },
    }
}

impl<F, B> WatchedFuture<F, B> {
    fn serving(
        future: F,
        in_service: Option<InService>,
        reservation: Option<BodyReservation>,
    ) -> Self {
        Self {
            inner: WatchedInner::Serving { future },
            in_service,
            reservation,
            is_http_1_0: false,
            asks_for_upgrade: false,
            body: PhantomData,
        }
    }

    fn rejecting(rejection: RequestRejection, in_service: InService) -> Self {
        Self {
            inner: WatchedInner::Rejecting { rejection },
            in_service: Some(in_service),
            reservation: None,
            is_http_1_0: false,
            asks_for_upgrade: false,
            body: PhantomData,
        }
    }
}

impl<F, B, R, E> Future for WatchedFuture<F, B>
where
    F: Future<Output = Result<R, E>>,
    R: Into<Response<B>>,
    E: Into<Response<BoxBody>>,
    B: MessageBody,
{
    type Output = Result<Response<WatchedBody<B>>, Response<BoxBody>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.inner.project() {
            WatchedProjection::Serving { future } => ready!(future.poll(context)),
            WatchedProjection::Rejecting { rejection } => {
                return Poll::Ready(Err(closing::response(*rejection)));
            }
        };
        *this.reservation = None;
        let in_service = this.in_service.take();
        let is_last =
            (in_service.as_ref()).is_some_and(|service| service.state.closes_after_answer());
        Poll::Ready(match answer {
            Ok(response) => {
                let response = response.into();
                let is_refused =
                    *this.asks_for_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS;
                let mut response = last_if(is_last || is_refused, response);
                if *this.is_http_1_0 && response.body().size() == BodySize::Stream {
                    end_with_connection(&mut response);
                }
                Ok(response.map_body(|_, body| WatchedBody {
                    body,
                    in_service,
                    rest: Bytes::new(),
                }))
            }
            Err(error) => Err(last_if(is_last || *this.asks_for_upgrade, error.into())),
        })
    }
}

/// Makes an answer the last of its connection, if `is_last`.
fn last_if<B>(is_last: bool, mut response: Response<B>) -> Response<B> {
    if is_last {
        response
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
    response
}

/// Ends the body with the connection, because HTTP/1.0 has no chunks (RFC 9112, section 6.1).
fn end_with_connection<B>(response: &mut Response<B>) {
    let head = response.head_mut();
    head.no_chunking(true);
    head.set_connection_type(ConnectionType::Close);
}

pin_project! {
    /// The body of an answer. Its request is in service until it is dropped.
    pub(super) struct WatchedBody<B> {
        #[pin]
        body: B,
        in_service: Option<InService>,
        // The rest of a part that was too large to be passed on at once.
        rest: Bytes,
    }
}

impl<B: MessageBody> MessageBody for WatchedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.project();
        if let Some(in_service) = this.in_service {
            in_service.polled();
        }
        let mut part = if this.rest.is_empty() {
            match ready!(this.body.poll_next(context)) {
                Some(Ok(part)) => part,
                ended => return Poll::Ready(ended),
            }
        } else {
            mem::take(this.rest)
        };
        if part.len() > SLICE {
            *this.rest = part.split_off(SLICE);
        }
        if let Some(in_service) = this.in_service {
            in_service.passed_on();
        }
        Poll::Ready(Some(Ok(part)))
    }
}
