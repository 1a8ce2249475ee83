//! A request whose service gave no response: it returned an error, or it panicked. The record travels inside the
//! error, since the answer is made from the error later, outside of the middleware.

use std::{cell::Cell, fmt};

use actix_web::{
    Error, HttpResponse, ResponseError,
    body::{BodySize, BoxBody, MessageBody},
    http::StatusCode,
};

use super::{answer::Head, body::MonitoredBody, record::Record};

/// An error on its way to become the answer, with the record of its request.
///
/// Shows itself, and answers, as the error that it wraps.
pub(super) struct Failure {
    error: Error,
    record: Cell<Option<Record>>,
}

impl Failure {
    pub(super) fn new(error: Error, record: Record) -> Self {
        Self {
            error,
            record: Cell::new(Some(record)),
        }
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        self.error.as_response_error().status_code()
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = self.error.error_response();
        let Some(record) = self.record.take() else {
            return response;
        };
        record.complete_head(|| response.headers_mut());
        let size = response.body().size();
        let head = Head::new(response.status(), size, record.is_head());
        let answer = record.answer(None, head);
        response.map_body(|_, body| MonitoredBody::new(body, answer).boxed())
    }
}

impl Drop for Failure {
    /// Another middleware made its own answer of the error: the error's status is the best that is known.
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            let head = Head::new(self.status_code(), BodySize::None, false);
            drop(record.answer(None, head));
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}
