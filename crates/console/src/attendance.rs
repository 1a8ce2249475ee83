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
