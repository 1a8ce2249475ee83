//! The gate before the operators' endpoints. It limits the rate of requests, checks their origin and credentials, and
//! adds the configured headers to each answer.

use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header, header::HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

use super::hash_queue::{HashQueue, QueueFull};
use super::origin;
use super::rate_limit::Bucket;
use super::terms::{InForce, Terms};
use actix_vitals::problem::Problem;

/// The one endpoint that may be left open.
const LIVENESS: &str = "/livez";

/// When a login for which there is no room may be tried again, in seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What the gate goes by.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    terms: Arc<InForce>,
    hash_queue: HashQueue,
    /// The tokens of the rate limit, whichever terms are in force.
    bucket: Arc<Bucket>,
    is_liveness_open: bool,
}

impl Gate {
    /// A gate for the terms in force at each request; `/livez` may pass without credentials where it is open.
    pub(super) fn new(terms: Arc<InForce>, is_liveness_open: bool) -> Self {
        Self {
            terms,
            hash_queue: HashQueue::new(),
            bucket: Arc::default(),
            is_liveness_open,
        }
    }

    /// Lets a request pass to what stands behind, or answers it.
    pub(super) async fn pass(
        self,
        request: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        let terms = self.terms.get();
        let mut response = match self.refusal(&request, &terms).await {
            Some(refusal) => request.into_response(refusal),
            None => next.call(request).await?.map_into_boxed_body(),
        };
        for (name, value) in &terms.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        Ok(response)
    }

    async fn refusal(&self, request: &ServiceRequest, terms: &Terms) -> Option<HttpResponse> {
        // A supervisor must not take a busy service for a dead one.
        let is_open = self.is_liveness_open && request.path() == LIVENESS;
        // Before anything that costs, as in the exporters.
        if let Some(limit) = terms.rate_limit
            && !is_open
            && !self.bucket.admits(limit, Instant::now())
        {
            return Some(too_often(limit.retry_after()).to_response());
        }
        if origin::is_foreign(request.head()) {
            return Some(foreign_origin().to_response());
        }
        let credentials = terms.credentials.as_ref()?;
        if is_open {
            return None;
        }
        let client = request.peer_addr().map(|address| address.ip());
        let admitted = credentials.admit(request.headers(), client, &self.hash_queue);
        match admitted.await {
            Ok(true) => return None,
            Ok(false) => (),
            Err(QueueFull) => return Some(too_many_logins().to_response()),
        }
        let mut refusal = not_operator().to_response();
        let challenge = HeaderValue::from_static(credentials.challenge());
        let headers = refusal.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, challenge);
        Some(refusal)
    }
}

/// The answer to who is no operator, but for the header that says how to be one.
pub(crate) fn not_operator() -> Problem {
    let detail = "The operators' endpoints are open to operators only.";
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// The answer to requests that come more often than the rate limit allows.
pub(crate) fn too_often(retry_after_seconds: u32) -> Problem {
    let detail = "Requests to the operators' endpoints come too often.";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(retry_after_seconds)
}

/// The answer to a login when too many wait already.
fn too_many_logins() -> Problem {
    let detail = "Too many logins wait to be checked. Try again in a moment.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER_SECONDS)
}

/// The answer to a page of another origin.
pub(crate) fn foreign_origin() -> Problem {
    let detail = "The operators' endpoints are not for pages of other origins.";
    Problem::new(StatusCode::FORBIDDEN, detail)
}
