//! How many requests of the operator are in progress. They stand in `inprogress_requests` like all others, whose gauge
//! has no labels to tell them by: who shows how busy the service is takes these off.

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

/// Counts requests from their handler's start to the end of their body. Cheap to clone; a clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attendance(Arc<AtomicU64>);

impl Attendance {
    /// How many there are now.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Serves a request, and counts it for as long as that takes, if it `is_shown` by the gauge.
    pub(crate) async fn attend<B: MessageBody>(
        self,
        is_shown: bool,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<AttendedBody<B>>, Error> {
        let present = is_shown.then(|| self.enter());
        let response = next.call(request).await?;
        Ok(response.map_body(|_, body| AttendedBody {
            body,
            _present: present,
        }))
    }

    /// Counts one for as long as what is returned is kept.
    pub(crate) fn enter(self) -> Present {
        self.0.fetch_add(1, Relaxed);
        Present(self)
    }
}

/// A request that is counted.
#[derive(Debug)]
pub(crate) struct Present(Attendance);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

pin_project! {
    /// A body that keeps its request counted.
    #[derive(Debug)]
    pub(crate) struct AttendedBody<B> {
        #[pin]
        body: B,
        _present: Option<Present>,
    }
}

impl<B: MessageBody> MessageBody for AttendedBody<B> {
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

    use std::time::Duration;

    use vitals_recorder::{
        context,
        http::{
            HttpFamilies, Monitor, NotableRequests, OptionalFamilies, RecordingSettings, Renaming,
            RequestRecorder,
        },
        naming::{LATENCY_BUCKETS, Naming},
        ops_endpoints::OpsEndpoints,
        runtime::Runtime,
    };
    use vitals_registry::Registry;

    use super::*;

    /// The middleware with everything at its default.
    fn monitor() -> Monitor {
        let mut registry = Registry::builder(|| Duration::from_secs(1));
        let runtime = Runtime::declare(&mut registry, &LATENCY_BUCKETS);
        let families = HttpFamilies::declare(
            &mut registry,
            Naming::Vitals,
            Renaming::default(),
            OptionalFamilies::default(),
            &LATENCY_BUCKETS,
        );
        let settings = RecordingSettings {
            exclude: Vec::new(),
            n_plus_one: 0,
            server_timing: false,
            notable: NotableRequests::new(OpsEndpoints::default()),
        };
        registry.build().unwrap();
        Monitor::new(
            Arc::new(RequestRecorder::new(families, None, settings)),
            runtime,
        )
    }

    /// How many are counted once the head of an answer is there, and once its body has been read.
    async fn counts(monitored: bool) -> [u64; 2] {
        let attendance = Attendance::default();
        let shared = attendance.clone();
        let route = web::get()
            .to(|| async { "own" })
            .wrap(from_fn(move |request, next| {
                let is_shown = context::current().is_some();
                shared.clone().attend(is_shown, request, next)
            }));
        let app = App::new()
            .route("/own", route)
            .wrap(Condition::new(monitored, monitor()));
        let service = init_service(app).await;
        let request = TestRequest::get().uri("/own").to_request();
        let response = call_service(&service, request).await;
        let before = attendance.count();
        assert!(to_bytes(response.into_body()).await.is_ok());
        [before, attendance.count()]
    }

    #[actix_web::test]
    async fn a_request_is_counted_until_its_body_is_over() {
        assert_eq!(counts(true).await, [1, 0]);
    }

    #[actix_web::test]
    async fn a_request_that_nobody_records_is_not_taken_off() {
        assert_eq!(counts(false).await, [0, 0]);
    }
}
