//! Whether new requests of the API are taken in, where the operators share its listener: at a shutdown that must stay
//! open for them, until the requests that were taken in before have had their answers.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::EitherBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::StatusCode;
use pin_project_lite::pin_project;

use actix_vitals::ops;
use actix_vitals::problem::Problem;

/// When a client that is turned away may try again, in seconds: another instance may serve it by then.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The intake of a server, to be wrapped around its application. Cheap to clone; a clone is the same intake.
#[derive(Clone, Debug, Default)]
pub(super) struct Intake {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    closed: AtomicBool,
    /// The requests that each worker has taken in and not answered. Each has its own, so that they do not contend.
    taken: Mutex<Vec<Arc<AtomicUsize>>>,
}

impl Intake {
    /// From now on requests are turned away with a 503, but for the operators'.
    pub(super) fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
    }

    /// How many requests were taken in and are not answered yet, the operators' apart.
    pub(super) fn unanswered(&self) -> usize {
        let taken = self.shared.taken.lock();
        let taken = taken.unwrap_or_else(PoisonError::into_inner);
        taken.iter().map(|of| of.load(Ordering::SeqCst)).sum()
    }
}

impl<S, B> Transform<S, ServiceRequest> for Intake
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = TakenIn<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let taken = Arc::new(AtomicUsize::new(0));
        let mut all = (self.shared.taken.lock()).unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&taken));
        ready(Ok(TakenIn {
            service,
            shared: Arc::clone(&self.shared),
            taken,
        }))
    }
}

/// A worker's application behind the intake.
pub(super) struct TakenIn<S> {
    service: S,
    shared: Arc<Shared>,
    taken: Arc<AtomicUsize>,
}

impl<S, B> Service<ServiceRequest> for TakenIn<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.service.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        // Counted first, or it could be overlooked by who closes the intake and then counts.
        let taken = Taken::new(&self.taken);
        if !self.shared.closed.load(Ordering::SeqCst) {
            return Answering::TakenIn {
                future: self.service.call(request),
                _taken: taken,
            };
        }
        drop(taken);
        if ops::serves(request.path()) {
            Answering::Operators {
                future: self.service.call(request),
            }
        } else {
            let problem = Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The server is shutting down.",
            );
            let answer = problem.retry_after(RETRY_AFTER_SECONDS).to_response();
            Answering::TurnedAway {
                answer: Some(request.into_response(answer)),
            }
        }
    }
}

/// A request that was taken in, until its answer is made.
struct Taken(Arc<AtomicUsize>);

impl Taken {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pin_project! {
    /// A request on its way to an answer.
    #[project = Projection]
    pub(super) enum Answering<F> {
        TakenIn { #[pin] future: F, _taken: Taken },
        Operators { #[pin] future: F },
        TurnedAway { answer: Option<ServiceResponse> },
    }
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = Result<ServiceResponse<EitherBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projection::TakenIn { future, .. } | Projection::Operators { future } => future
                .poll(context)
                .map_ok(ServiceResponse::map_into_left_body),
            // It is not polled again.
            Projection::TurnedAway { answer } => match answer.take() {
                Some(answer) => Poll::Ready(Ok(answer.map_into_right_body())),
                None => Poll::Pending,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{App, HttpResponse, web};

    use super::*;

    #[actix_web::test]
    async fn a_closed_intake_lets_what_is_inside_finish_and_only_operators_in() {
        let intake = Intake::default();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let released = std::rc::Rc::new(std::cell::Cell::new(Some(released)));
        let slow = move || {
            let released = released.take();
            async move {
                if let Some(released) = released {
                    released.await.unwrap();
                }
                HttpResponse::Ok().finish()
            }
        };
        let app = App::new()
            .route("/data", web::get().to(slow))
            .route("/metrics", web::get().to(HttpResponse::Ok))
            .wrap(intake.clone());
        let app = init_service(app).await;
        let get = |path: &str| TestRequest::with_uri(path).to_request();

        let mut slow = Box::pin(call_service(&app, get("/data")));
        let begun = tokio::time::timeout(std::time::Duration::ZERO, &mut slow).await;
        assert!(begun.is_err());
        assert_eq!(intake.unanswered(), 1);
        intake.close();

        let refused = call_service(&app, get("/data")).await;
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers().get("retry-after").unwrap(), "1");
        assert_eq!(call_service(&app, get("/metrics")).await.status(), 200);
        assert_eq!(intake.unanswered(), 1);

        release.send(()).unwrap();
        assert_eq!(slow.await.status(), 200);
        assert_eq!(intake.unanswered(), 0);
    }
}
