//! Problem documents: errors as clients see them (RFC 9457).
//!
//! This module depends on HTTP only, so recorders, ops endpoints and services can use it. The code that knows an error
//! converts it into a problem.

use std::{borrow::Cow, fmt};

use actix_web::{
    HttpRequest, HttpResponse, Responder, ResponseError,
    body::BoxBody,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use serde::{Deserialize, Serialize};

use crate::http::names_of;

/// The media type of a problem document (RFC 9457, section 3).
pub const CONTENT_TYPE: &str = "application/problem+json";

/// The type of a problem that is fully described by its status (RFC 9457, section 4.2.1).
const ABOUT_BLANK: &str = "about:blank";

/// An error as its client sees it: an RFC 9457 problem document.
///
/// It is a [`ResponseError`], so a handler can return it with `?`, and a [`Responder`], so a handler can answer with it.
/// It serialises to the JSON of the document, without the headers (`Retry-After`, `Allow`). It must not contain a secret, a
/// path on the server or the text of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problem(Box<Document>);

/// The contents of a problem. They are boxed, so that results with a problem as their error stay small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    #[serde(rename = "type")]
    kind: Cow<'static, str>,
    title: Cow<'static, str>,
    #[serde(with = "status_number")]
    status: StatusCode,
    detail: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
    #[serde(skip)]
    allow: Option<&'static str>,
    /// The names of the error that caused it, and of its sources.
    #[serde(skip)]
    causes: Vec<Cow<'static, str>>,
}

/// One field and the rule that it broke: an entry of a problem's `errors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// The name of the invalid member, parameter or path segment.
    pub field: Cow<'static, str>,
    /// The rule that it broke, to be read after the name: `must be a string`.
    pub message: Cow<'static, str>,
}

impl FieldError {
    /// Returns the entry of a `field` that broke the rule in `message`.
    pub fn new(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

impl Problem {
    /// Returns a problem with a status, and a sentence for the person who reads it.
    ///
    /// Its type is `about:blank`, and its title is the status' reason phrase.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Document {
            kind: Cow::Borrowed(ABOUT_BLANK),
            title: Cow::Borrowed(status.canonical_reason().unwrap_or("Error")),
            status,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_seconds: None,
            allow: None,
            causes: Vec::new(),
        }))
    }

    /// Adds the invalid fields, each with the rule that it broke.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Sets the type of the problem, a URI reference, and the title of that type.
    #[must_use]
    pub fn with_type(
        mut self,
        kind: impl Into<Cow<'static, str>>,
        title: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.0.kind = kind.into();
        self.0.title = title.into();
        self
    }

    /// Sets when the client may try again, in seconds (`Retry-After`, RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// Sets the methods that the resource has (`Allow`, RFC 9110, section 10.2.1). A 405 must have them.
    #[must_use]
    pub fn allow(mut self, methods: &'static str) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// Notes the error that caused the problem, for operators: `GET /ops/errors` shows its type and those of its sources, as
    /// far as they are known, and never its text. The client does not see it.
    #[must_use]
    pub fn caused_by<E: std::error::Error + 'static>(mut self, error: &E) -> Self {
        self.0.causes = names_of(error);
        self
    }

    /// The names of the error that caused it.
    pub(crate) fn causes(&self) -> &[Cow<'static, str>] {
        &self.0.causes
    }

    /// The title, if it is part of the code and so cannot contain a value.
    pub(crate) fn static_title(&self) -> Option<&'static str> {
        match self.0.title {
            Cow::Borrowed(title) => Some(title),
            Cow::Owned(_) => None,
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The sentence that explains the problem.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The invalid fields; empty if the problem is not about fields.
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// Returns the document as an HTTP answer.
    pub fn to_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.0.status);
        answer.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE)));
        if let Some(seconds) = self.0.retry_after_seconds {
            answer.insert_header((header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
        if let Some(methods) = self.0.allow {
            answer.insert_header((header::ALLOW, HeaderValue::from_static(methods)));
        }
        // Strings and numbers always serialise.
        answer.body(serde_json::to_vec(self).unwrap_or_default())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.status.as_u16(), self.0.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.to_response()
    }
}

impl Responder for Problem {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse<BoxBody> {
        self.to_response()
    }
}

/// Serialises a status as a number, as RFC 9457 demands.
mod status_number {
    use actix_web::http::StatusCode;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(super) fn serialize<S: Serializer>(
        status: &StatusCode,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(status.as_u16())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<StatusCode, D::Error> {
        StatusCode::from_u16(u16::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plain_problem_is_described_by_its_status() {
        let problem = Problem::new(StatusCode::NOT_FOUND, "There is no item 7.");
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            json!({
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "detail": "There is no item 7.",
            })
        );
    }

    #[test]
    fn field_errors_are_part_of_the_document() {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "One field is not valid.")
            .with_errors(vec![FieldError::new("name", "must be a string")]);
        let document = serde_json::to_value(&problem).unwrap();
        assert_eq!(
            document["errors"],
            json!([{"field": "name", "message": "must be a string"}])
        );
        assert_eq!(
            serde_json::from_value::<Problem>(document).unwrap(),
            problem
        );
    }

    #[test]
    fn headers_are_not_part_of_the_document() {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Busy.")
            .retry_after(2)
            .allow("GET, HEAD");
        let answer = problem.error_response();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers().get(header::RETRY_AFTER).unwrap(), "2");
        assert_eq!(answer.headers().get(header::ALLOW).unwrap(), "GET, HEAD");
        assert_eq!(
            answer.headers().get(header::CONTENT_TYPE).unwrap(),
            CONTENT_TYPE
        );
        assert!(
            serde_json::to_value(&problem)
                .unwrap()
                .get("allow")
                .is_none()
        );
    }
}
