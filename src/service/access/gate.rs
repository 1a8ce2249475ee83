//! The gate before the operators' endpoints: it asks where a request comes from and who sends it, and gives each answer
//! the headers that were configured.

use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header, header::HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

use super::credentials::Hashers;
use super::origin;
use super::terms::{InForce, Terms};
use crate::vitals::problem::Problem;

/// The one endpoint that may be left open.
const LIVENESS: &str = "/livez";

/// What the gate goes by.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    terms: Arc<InForce>,
    hashers: Hashers,
    is_liveness_open: bool,
}

impl Gate {
    /// A gate for the terms in force at each request; `/livez` may pass without credentials where it is open.
    pub(super) fn new(terms: Arc<InForce>, is_liveness_open: bool) -> Self {
        Self {
            terms,
            hashers: Hashers::new(),
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
        if origin::is_foreign(request.head()) {
            return Some(foreign_origin().to_response());
        }
        let credentials = terms.credentials.as_ref()?;
        if self.is_liveness_open && request.path() == LIVENESS {
            return None;
        }
        if credentials.admit(request.headers(), &self.hashers).await {
            return None;
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

/// The answer to a page of another origin.
pub(crate) fn foreign_origin() -> Problem {
    let detail = "The operators' endpoints are not for pages of other origins.";
    Problem::new(StatusCode::FORBIDDEN, detail)
}
