//! Counts the requests of the ops endpoints that are in progress.
//!
//! The gauge `inprogress_requests` contains them and has no label that separates them. The live page subtracts this count.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use actix_web::{
    Error,
    body::{BodySize, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Bytes,
};
use pin_project_lite::pin_project;

/// Counts requests from the start of their handler to the end of their body. Cheap to clone; all clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpsInProgress(Arc<AtomicU64>);

impl OpsInProgress {
    /// How many requests are in progress.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Serves a request. Counts it until its body ends, if it `is_in_gauge`.
    pub(crate) async fn track<B: MessageBody>(
        self,
        is_in_gauge: bool,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<OpsTrackedBody<B>>, Error> {
        let guard = is_in_gauge.then(|| self.start());
        let response = next.call(request).await?;
        Ok(response.map_body(|_, body| OpsTrackedBody {
            body,
            _guard: guard,
        }))
    }

    /// Counts one request until the guard is dropped.
    pub(crate) fn start(self) -> OpsRequestGuard {
        self.0.fetch_add(1, Relaxed);
        OpsRequestGuard(self)
    }
}

/// Counts one request until it is dropped.
#[derive(Debug)]
pub(crate) struct OpsRequestGuard(OpsInProgress);

impl Drop for OpsRequestGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

pin_project! {
    /// A body that keeps its request counted.
    #[derive(Debug)]
    pub(crate) struct OpsTrackedBody<B> {
        #[pin]
        body: B,
        _guard: Option<OpsRequestGuard>,
    }
}

impl<B: MessageBody> MessageBody for OpsTrackedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.project().body.poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{
        App,
        body::to_bytes,
        middleware::{Condition, from_fn},
        test::{TestRequest, call_service, init_service},
        web,
    };
    use vitals_recorder::{context, http::Monitor};

    use super::*;
    use crate::fixture;

    fn monitor() -> Monitor {
        let (_, watched) = fixture::recorders();
        Monitor::new(watched.http, watched.runtime)
    }

    /// The counts after the head of an answer, and after its body.
    async fn counts(monitored: bool) -> [u64; 2] {
        let in_progress = OpsInProgress::default();
        let shared = in_progress.clone();
        let route = web::get()
            .to(|| async { "own" })
            .wrap(from_fn(move |request, next| {
                let is_in_gauge = context::current().is_some();
                shared.clone().track(is_in_gauge, request, next)
            }));
        let app = App::new()
            .route("/own", route)
            .wrap(Condition::new(monitored, monitor()));
        let service = init_service(app).await;
        let request = TestRequest::get().uri("/own").to_request();
        let response = call_service(&service, request).await;
        let before = in_progress.count();
        assert!(to_bytes(response.into_body()).await.is_ok());
        [before, in_progress.count()]
    }

    #[actix_web::test]
    async fn a_request_is_counted_until_its_body_ends() {
        assert_eq!(counts(true).await, [1, 0]);
    }

    #[actix_web::test]
    async fn a_request_that_is_not_recorded_is_not_counted() {
        assert_eq!(counts(false).await, [0, 0]);
    }
}
