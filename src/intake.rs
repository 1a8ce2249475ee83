//! The middleware that stops taking in requests at a shutdown, on a listener that the API and the ops endpoints share.
//!
//! The listener must stay open for the ops endpoints until the requests that were taken in before are answered.

use std::{
    future::{Ready, ready},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use actix_vitals::{ops, problem::Problem};
use actix_web::{
    Error,
    body::EitherBody,
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
    http::StatusCode,
};

use super::early_answer::EarlyAnswer;

/// Seconds after which a rejected client may try again. Another instance may serve it by then.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Counts the requests in flight, and rejects new ones once it is closed. Clones share their state.
#[derive(Clone, Debug, Default)]
pub(super) struct Intake {
    inner: Arc<IntakeInner>,
}

#[derive(Debug, Default)]
struct IntakeInner {
    closed: AtomicBool,
    /// The requests in flight, one count for each worker so that workers do not contend.
    in_flight: Mutex<Vec<Arc<AtomicUsize>>>,
}

impl Intake {
    /// Rejects all further requests with 503, except those for the ops endpoints.
    pub(super) fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
    }

    /// The number of requests that were taken in and are not answered yet. Once the intake is closed, requests for the ops
    /// endpoints are not among them.
    pub(super) fn unanswered(&self) -> usize {
        let counts = self.inner.in_flight.lock();
        let counts = counts.unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|count| count.load(Ordering::SeqCst))
            .sum()
    }
}

impl<S, B> Transform<S, ServiceRequest> for Intake
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = IntakeService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let in_flight = Arc::new(AtomicUsize::new(0));
        let mut counts = (self.inner.in_flight.lock()).unwrap_or_else(PoisonError::into_inner);
        counts.push(Arc::clone(&in_flight));
        ready(Ok(IntakeService {
            service,
            inner: Arc::clone(&self.inner),
            in_flight,
        }))
    }
}

/// The application of one worker behind the intake.
pub(super) struct IntakeService<S> {
    service: S,
    inner: Arc<IntakeInner>,
    in_flight: Arc<AtomicUsize>,
}

impl<S, B> Service<ServiceRequest> for IntakeService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = EarlyAnswer<S::Future, Option<TakenRequest>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.service.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        // Counted before the check. In the other order, a shutdown that closes the intake and then reads the counts could
        // miss this request.
        let taken = TakenRequest::new(&self.in_flight);
        if !self.inner.closed.load(Ordering::SeqCst) {
            return EarlyAnswer::passed(self.service.call(request), Some(taken));
        }
        drop(taken);
        if ops::serves(request.path()) {
            return EarlyAnswer::passed(self.service.call(request), None);
        }
        let problem = Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The server is shutting down.",
        );
        let answer = problem.retry_after(RETRY_AFTER_SECONDS).to_response();
        EarlyAnswer::answered(request, answer)
    }
}

/// Counts a request until it is dropped.
pub(super) struct TakenRequest(Arc<AtomicUsize>);

impl TakenRequest {
    fn new(in_flight: &Arc<AtomicUsize>) -> Self {
        in_flight.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(in_flight))
    }
}

impl Drop for TakenRequest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{App, HttpResponse, web};

    use super::*;

    #[actix_web::test]
    async fn a_closed_intake_lets_requests_in_flight_finish_and_admits_requests_for_ops_endpoints()
    {
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

        let rejected = call_service(&app, get("/data")).await;
        assert_eq!(rejected.status(), 503);
        assert_eq!(rejected.headers().get("retry-after").unwrap(), "1");
        assert_eq!(call_service(&app, get("/metrics")).await.status(), 200);
        assert_eq!(intake.unanswered(), 1);

        release.send(()).unwrap();
        assert_eq!(slow.await.status(), 200);
        assert_eq!(intake.unanswered(), 0);
    }
}
