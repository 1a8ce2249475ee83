//! A request whose service returned an error or panicked. The record moves inside the error, because Actix builds the
//! answer from the error later, outside of the middleware.

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

use crate::{
    http::record::{answered::Head, body::MonitoredBody, open::OpenRecord},
    problem::Problem,
};

/// An Actix error with the record of its request. It displays itself and answers like the error that it wraps.
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

/// Returns the answer to a panic.
#[cold]
pub(in crate::http) fn panic_problem() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The server failed to answer this request. The cause is in its log.",
    )
}

/// Calls the application's error. It may panic like any other code of the application. It is called outside of the
/// middleware, even while another panic unwinds.
fn call_error<T>(f: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(f))
}

impl ResponseError for RecordedError {
    fn status_code(&self) -> StatusCode {
        let status = call_error(|| self.error.as_response_error().status_code());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let record = self.record.take();
        let mut response = call_error(|| self.error.error_response()).unwrap_or_else(|panic| {
            if let Some(record) = &record {
                record.panicked(&*panic);
            }
            panic_problem().to_response()
        });
        let Some(record) = record else {
            return response;
        };
        record.complete_head(|| response.headers_mut());
        if response.status().is_server_error() {
            record.note_failure(Some(&self.error));
        }
        let size = response.body().size();
        let head = Head::new(response.status(), size, record.is_head());
        let answer = record.answer(None, head);
        response.map_body(|_, body| MonitoredBody::new(body, answer).boxed())
    }
}

impl Drop for RecordedError {
    /// Settles the record of an error that another middleware replaced by its own answer. The status of the error is the
    /// best that is known.
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            let head = Head::new(self.status_code(), BodySize::None, false);
            if head.status.is_server_error() {
                record.note_failure(Some(&self.error));
            }
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
