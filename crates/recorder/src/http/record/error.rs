//! A request whose service gave no response: it returned an error, or it panicked. The record travels inside the
//! error, since the answer is made from the error later, outside of the middleware.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use actix_web::{
    Error, HttpResponse, ResponseError,
    body::{BodySize, BoxBody, MessageBody},
    http::StatusCode,
};

use crate::http::{record::answered::Head, record::body::MonitoredBody, record::open::OpenRecord};
use crate::problem::Problem;

/// An error on its way to become the answer, with the record of its request.
///
/// Shows itself, and answers, as the error that it wraps.
pub(in crate::http) struct RecordedError {
    error: Error,
    record: Cell<Option<OpenRecord>>,
}

impl RecordedError {
    pub(in crate::http) fn new(error: Error, record: OpenRecord) -> Self {
        Self {
            error,
            record: Cell::new(Some(record)),
        }
    }
}

/// The answer to a panic.
#[cold]
pub(in crate::http) fn fault() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The server met a fault of its own; its operator finds the cause in the log.",
    )
}

/// Asks the application's error something. It may panic like any other code of the application, and it is asked outside of
/// the middleware, even while another panic unwinds.
fn ask<T>(f: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(f))
}

impl ResponseError for RecordedError {
    fn status_code(&self) -> StatusCode {
        let status = ask(|| self.error.as_response_error().status_code());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let record = self.record.take();
        let mut response = ask(|| self.error.error_response()).unwrap_or_else(|panic| {
            if let Some(record) = &record {
                record.panicked(&*panic);
            }
            fault().to_response()
        });
        let Some(record) = record else {
            return response;
        };
        record.complete_head(|| response.headers_mut());
        let size = response.body().size();
        let head = Head::new(response.status(), size, record.is_head());
        let answer = record.answer(None, head);
        response.map_body(|_, body| MonitoredBody::new(body, answer).boxed())
    }
}

impl Drop for RecordedError {
    /// Another middleware made its own answer of the error: the error's status is the best that is known.
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            let head = Head::new(self.status_code(), BodySize::None, false);
            drop(record.answer(None, head));
        }
    }
}

impl fmt::Display for RecordedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl fmt::Debug for RecordedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}
