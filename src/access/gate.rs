//! The gate before the ops endpoints. It checks the rate of requests, their origin and their credentials, and adds the
//! configured headers to each response.

use std::sync::Arc;

use actix_vitals::problem::Problem;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header, header::HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};
use exporter_web_config::{Denial, Reloading, RequestGate};

use super::origin;
use super::terms::{TermFiles, Terms};

/// The only endpoint that can be exempt from credentials.
const LIVENESS: &str = "/livez";

/// The realm that clients see when they are asked for credentials.
const REALM: &str = "operators";

/// The middleware before the ops endpoints.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    terms: Arc<Reloading<TermFiles>>,
    requests: RequestGate,
    is_liveness_open: bool,
}

impl Gate {
    /// Checks requests against the terms in use. `is_liveness_open` admits `/livez` without credentials.
    pub(super) fn new(terms: Arc<Reloading<TermFiles>>, is_liveness_open: bool) -> Self {
        Self {
            terms,
            requests: RequestGate::new(REALM),
            is_liveness_open,
        }
    }

    /// Passes a request to the endpoint, or rejects it.
    pub(super) async fn pass(
        self,
        request: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        let terms = self.terms.current();
        let mut response = match self.check(&request, &terms).await {
            Err(rejection) => request.into_response(rejection),
            Ok(()) => next.call(request).await?.map_into_boxed_body(),
        };
        for (name, value) in &terms.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        Ok(response)
    }

    async fn check(&self, request: &ServiceRequest, terms: &Terms) -> Result<(), HttpResponse> {
        // No rate limit either: a supervisor must not restart a server that is merely busy.
        let is_open = self.is_liveness_open && request.path() == LIVENESS;
        if !is_open {
            self.requests
                .check_rate(&terms.ops)
                .map_err(|denial| rejection(&denial))?;
        }
        if origin::is_foreign(request.head()) {
            return Err(foreign_origin().to_response());
        }
        if is_open {
            return Ok(());
        }
        let authorization = request.headers().get_all(header::AUTHORIZATION);
        let client = request.peer_addr().map(|address| address.ip());
        self.requests
            .check_credentials(&terms.ops, authorization.map(HeaderValue::as_bytes), client)
            .await
            .map_err(|denial| rejection(&denial))
    }
}

fn rejection(denial: &Denial) -> HttpResponse {
    match denial {
        Denial::Unauthorized { challenge } => {
            let mut response = not_operator().to_response();
            if let Ok(challenge) = HeaderValue::from_str(challenge) {
                let headers = response.headers_mut();
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
        Denial::TooManyRequests { retry_after } => too_often(*retry_after).to_response(),
        Denial::TooManyLogins { retry_after } => too_many_logins(*retry_after).to_response(),
    }
}

/// The answer to missing or wrong credentials, without `WWW-Authenticate`.
pub(crate) fn not_operator() -> Problem {
    let detail = "The ops endpoints need the credentials of an operator.";
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// The answer to a request beyond the rate limit.
pub(crate) fn too_often(retry_after_seconds: u32) -> Problem {
    let detail = "Requests to the ops endpoints arrive too often.";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(retry_after_seconds)
}

/// The answer to a login when the queue of logins is full.
fn too_many_logins(retry_after_seconds: u32) -> Problem {
    let detail = "Too many logins wait to be checked. Try again in a moment.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(retry_after_seconds)
}

/// The answer to a request from a page of another origin.
pub(crate) fn foreign_origin() -> Problem {
    let detail = "The ops endpoints reject requests from pages of other origins.";
    Problem::new(StatusCode::FORBIDDEN, detail)
}
