//! The future of a middleware that passes a request on or answers it at once.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    Error, HttpResponse,
    body::EitherBody,
    dev::{ServiceRequest, ServiceResponse},
};
use pin_project_lite::pin_project;

pin_project! {
    /// Resolves to the answer of the inner service or to that of the middleware.
    #[project = Projection]
    pub(super) enum EarlyAnswer<F, G> {
        /// The inner service answers. The guard is dropped when its answer is ready or the request is cancelled.
        Passed { #[pin] future: F, _guard: G },
        /// The middleware has answered. `None` once the answer is returned.
        Answered { answer: Option<ServiceResponse> },
    }
}

impl<F, G> EarlyAnswer<F, G> {
    /// Lets the inner service answer, and keeps `guard` meanwhile.
    pub(super) fn passed(future: F, guard: G) -> Self {
        Self::Passed {
            future,
            _guard: guard,
        }
    }

    /// Answers the request without the inner service.
    pub(super) fn answered(request: ServiceRequest, answer: HttpResponse) -> Self {
        Self::Answered {
            answer: Some(request.into_response(answer)),
        }
    }
}

impl<F, G, B> Future for EarlyAnswer<F, G>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = Result<ServiceResponse<EitherBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projection::Passed { future, .. } => future
                .poll(context)
                .map_ok(ServiceResponse::map_into_left_body),
            Projection::Answered { answer } => match answer.take() {
                Some(answer) => Poll::Ready(Ok(answer.map_into_right_body())),
                // A future is not polled again after it has resolved.
                None => Poll::Pending,
            },
        }
    }
}
