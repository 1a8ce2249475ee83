//! The extractor of a request's body as a JSON object. `item` validates the members.

use std::{fmt::Display, future::Future, io::ErrorKind, pin::Pin};

use actix_vitals::{
    memory::AnswerMemoryExhausted,
    problem::{FieldError, Problem},
};
use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest,
    dev::Payload as RawPayload,
    error::PayloadError,
    http::{StatusCode, header},
    mime::Mime,
    web::{Bytes, Payload},
};
use serde_json::{Map, Value};

use super::problem::invalid;

/// The limits on the size of a request's body and on the nesting of its JSON.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Most bytes.
    pub bytes: usize,
    /// Most levels of nested arrays and objects.
    pub depth: usize,
}

/// The body of a request that must be a JSON object.
///
/// It fails with 415 if the body is not JSON in UTF-8, with 413 beyond the limit of bytes, with 408 if it takes too long, with
/// 400 if it is malformed or nested too deep, and with 422 if it is not an object. Of members with the same name, the last
/// one counts.
#[derive(Debug)]
pub(super) struct JsonObject(pub(super) Map<String, Value>);

impl FromRequest for JsonObject {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut RawPayload) -> Self::Future {
        let checked = check_head(request);
        let payload = Payload::from_request(request, payload).into_inner();
        Box::pin(async move {
            let limits = checked?;
            let payload = payload.map_err(|_| unreadable())?;
            let body = payload
                .to_bytes_limited(limits.bytes)
                .await
                .map_err(|_| too_large(limits.bytes))?
                .map_err(|error| match error.as_error::<PayloadError>() {
                    Some(PayloadError::Overflow) => too_large(limits.bytes),
                    Some(PayloadError::Io(cause)) if cause.kind() == ErrorKind::TimedOut => {
                        too_slow()
                    }
                    Some(PayloadError::Io(cause)) if cause.kind() == ErrorKind::OutOfMemory => {
                        AnswerMemoryExhausted.into()
                    }
                    _ => unreadable(),
                })?;
            parse(&body, limits.depth)
        })
    }
}

/// Checks the headers, so that a body which would be rejected is not read. Returns the limits for reading it.
fn check_head(request: &HttpRequest) -> Result<BodyLimits, Problem> {
    let kind = request.mime_type().ok().flatten();
    let Some(kind) = kind.filter(is_json) else {
        return Err(not_json());
    };
    if !is_utf_8(&kind) {
        return Err(unsupported("The body must be JSON in UTF-8."));
    }
    if request
        .headers()
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(unsupported("The body must have no `Content-Encoding`."));
    }
    let limits = request
        .app_data::<BodyLimits>()
        .copied()
        .unwrap_or(BodyLimits {
            bytes: usize::MAX,
            depth: usize::MAX,
        });
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
        .unwrap_or(0);
    if declared > limits.bytes as u64 {
        return Err(too_large(limits.bytes));
    }
    Ok(limits)
}

/// Whether the type is `application/json` or has the suffix `+json` (RFC 6839, section 3.1).
fn is_json(kind: &Mime) -> bool {
    kind.type_() == "application"
        && (kind.subtype() == "json" || kind.suffix().is_some_and(|suffix| suffix == "json"))
}

/// Whether the type has no charset other than UTF-8 or its subset ASCII. JSON is always UTF-8 (RFC 8259, section 8.1) and its
/// type has no such parameter, but clients send it.
fn is_utf_8(kind: &Mime) -> bool {
    kind.params()
        .filter(|(name, _)| *name == "charset")
        .all(|(_, charset)| {
            let charset = charset.as_str().trim_matches('"');
            ["utf-8", "utf8", "us-ascii"]
                .iter()
                .any(|known| charset.eq_ignore_ascii_case(known))
        })
}

fn parse(body: &Bytes, most: usize) -> Result<JsonObject, Problem> {
    if depth(body) > most {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("The body's JSON must not be nested deeper than {most} levels."),
        ));
    }
    let value = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    match value {
        Value::Object(members) => Ok(JsonObject(members)),
        _ => Err(invalid(vec![FieldError::new(
            "body",
            "must be a JSON object",
        )])),
    }
}

/// The greatest depth of nested arrays and objects, in well-formed JSON or its beginning.
fn depth(json: &[u8]) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' if !in_string => open = open.saturating_sub(1),
            _ => (),
        }
    }
    deepest
}

/// The problem of a body that takes too long.
pub(super) fn too_slow() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "The body of the request took too long.",
    )
}

/// The problem of a body that is malformed JSON.
pub(super) fn malformed(reason: &dyn Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        format!("The body is malformed JSON: {reason}."),
    )
}

/// The problem of a body whose type is missing or not JSON.
pub(super) fn not_json() -> Problem {
    unsupported("The body must be JSON, with `Content-Type: application/json`.")
}

/// The problem of a body with more bytes than `limit`.
pub(super) fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("The body must be at most {limit} bytes."),
    )
}

fn unsupported(detail: &'static str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
}

fn unreadable() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "The body could not be read completely.",
    )
}
