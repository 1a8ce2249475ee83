//! The answers that are problem documents. Their examples are made by the code that answers with them.

use actix_web::http::StatusCode;
use serde_json::json;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::response::Response;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, PathItem, Ref, ResponseBuilder};

use super::schemas;
use crate::access;
use crate::api::body::{self, BodyLimits};
use crate::api::problem;
use actix_vitals::problem::{CONTENT_TYPE, FieldError, Problem};

/// Why a request was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed,
    NoItem,
    TooSlow,
    TooLarge,
    Unsupported,
    Invalid,
    Failed,
    Unavailable,
    NotOperator,
    ForeignOrigin,
    TooOften,
}

impl Refusal {
    pub(super) const ALL: [Self; 11] = [
        Self::Malformed,
        Self::NoItem,
        Self::TooSlow,
        Self::TooLarge,
        Self::Unsupported,
        Self::Invalid,
        Self::Failed,
        Self::Unavailable,
        Self::NotOperator,
        Self::ForeignOrigin,
        Self::TooOften,
    ];

    /// Those of a request that has a body.
    pub(super) const OF_BODIES: [Self; 4] = [
        Self::Malformed,
        Self::TooSlow,
        Self::TooLarge,
        Self::Unsupported,
    ];

    /// Those of a request that asks the database.
    pub(super) const OF_DATABASE: [Self; 2] = [Self::Failed, Self::Unavailable];

    /// Those of a request to the operators' endpoints.
    pub(super) const OF_OPERATORS: [Self; 4] = [
        Self::NotOperator,
        Self::ForeignOrigin,
        Self::TooOften,
        Self::Unavailable,
    ];

    /// The name of its response.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Malformed => "Malformed",
            Self::NoItem => "NoItem",
            Self::TooSlow => "TooSlow",
            Self::TooLarge => "TooLarge",
            Self::Unsupported => "Unsupported",
            Self::Invalid => "Invalid",
            Self::Failed => "Failed",
            Self::Unavailable => "Unavailable",
            Self::NotOperator => "NotOperator",
            Self::ForeignOrigin => "ForeignOrigin",
            Self::TooOften => "TooOften",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Malformed => {
                "The body is malformed JSON or nested too deep, or did not arrive whole."
            }
            Self::NoItem => "There is no item with this id.",
            Self::TooSlow => "The body did not come in time. The connection is closed.",
            Self::TooLarge => "The body is too large.",
            Self::Unsupported => "The body is not JSON in UTF-8, or comes with a content encoding.",
            Self::Invalid => {
                "The request was understood, and breaks the rules that `errors` tells."
            }
            Self::Failed => "The request could not be carried out, through a fault of the service.",
            Self::Unavailable => "It cannot be carried out at the moment. Try again later.",
            Self::NotOperator => {
                "Operators have to say who they are here, and the request did not, or not truly."
            }
            Self::ForeignOrigin => "A page of another origin sent the request.",
            Self::TooOften => "Requests come more often than the rate limit of operators allows.",
        }
    }

    /// One of the problems that are answered so.
    fn example(self, limits: BodyLimits) -> Problem {
        match self {
            Self::Malformed => body::malformed(&"EOF while parsing an object at line 1 column 1"),
            Self::NoItem => problem::no_item(),
            Self::TooSlow => body::too_slow(),
            Self::TooLarge => body::too_large(limits.bytes),
            Self::Unsupported => body::not_json(),
            Self::Invalid => problem::invalid(vec![FieldError::new(
                "limit",
                "must be an integer from 1 to 1000",
            )]),
            Self::Failed => problem::failed(),
            Self::Unavailable => problem::busy(),
            Self::NotOperator => access::not_operator(),
            Self::ForeignOrigin => access::foreign_origin(),
            Self::TooOften => access::too_often(1),
        }
    }

    /// The response, for all operations to refer to.
    pub(super) fn response(self, limits: BodyLimits) -> Response {
        let schema = match self {
            Self::Invalid => schemas::INVALID,
            _ => schemas::PROBLEM,
        };
        let content = ContentBuilder::new()
            .schema(Some(schemas::named(schema)))
            .example(Some(json!(self.example(limits))));
        let response = ResponseBuilder::new()
            .description(self.description())
            .content(CONTENT_TYPE, content.build());
        match self {
            Self::Unavailable | Self::TooOften => {
                response.header("Retry-After", retry_after().build())
            }
            Self::NotOperator => response.header("WWW-Authenticate", challenge().build()),
            _ => response,
        }
        .build()
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NoItem => StatusCode::NOT_FOUND,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotOperator => StatusCode::UNAUTHORIZED,
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::TooOften => StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

/// Adds these to the answers of an operation.
pub(super) fn refuse(
    operation: OperationBuilder,
    refusals: impl IntoIterator<Item = Refusal>,
) -> OperationBuilder {
    refusals.into_iter().fold(operation, |operation, refusal| {
        operation.response(
            refusal.status().as_str(),
            Ref::from_response_name(refusal.name()),
        )
    })
}

/// Adds what the gate before the operators' endpoints may answer to all operations of a path. An operation that describes
/// such an answer by itself keeps its own.
pub(super) fn refuse_others(mut item: PathItem) -> PathItem {
    let operations = [&mut item.get, &mut item.post].into_iter().flatten();
    for operation in operations {
        for refusal in Refusal::OF_OPERATORS {
            let answers = &mut operation.responses.responses;
            answers
                .entry(refusal.status().as_str().to_owned())
                .or_insert_with(|| Ref::from_response_name(refusal.name()).into());
        }
    }
    item
}

fn challenge() -> HeaderBuilder {
    HeaderBuilder::new()
        .schema(Some(schemas::string()))
        .description(Some("How to say who one is: `Basic` or `Bearer`."))
}

fn retry_after() -> HeaderBuilder {
    HeaderBuilder::new()
        .schema(Some(schemas::integer().minimum(Some(0))))
        .description(Some("When to try again, in seconds."))
}
