//! A request's body, as a JSON object. Which members it must have is told in `item`.

use std::fmt::Display;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;

use actix_web::dev::Payload as RawPayload;
use actix_web::error::PayloadError;
use actix_web::http::{StatusCode, header};
use actix_web::mime::Mime;
use actix_web::web::{Bytes, Payload};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use serde_json::{Map, Value};

use super::problem::invalid;
use actix_vitals::memory::AnswerMemoryExhausted;
use actix_vitals::problem::{FieldError, Problem};

/// How large a request's body may be, in bytes, and how deep its arrays and objects may be nested.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Most bytes.
    pub bytes: usize,
    /// Most levels.
    pub depth: usize,
}

/// The body of a request that must be a JSON object.
///
/// Anything but JSON in UTF-8 is refused with 415, a body over the limit with 413, one that does not come in time with
/// 408, JSON that is malformed or nested too deep with 400, and JSON that is no object with 422. Of members that are given twice, the last counts.
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

/// Refuses by its head what need not be read, and gives the limit for what must.
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
        return Err(unsupported(
            "The body must come without a `Content-Encoding`.",
        ));
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

/// Whether the content is `application/json`, or of a type that says it is JSON (RFC 6839, section 3.1).
fn is_json(kind: &Mime) -> bool {
    kind.type_() == "application"
        && (kind.subtype() == "json" || kind.suffix().is_some_and(|suffix| suffix == "json"))
}

/// Whether the type names no other charset than UTF-8, or ASCII, which is a part of it. JSON has no other (RFC 8259,
/// section 8.1), and no such parameter, but clients send it.
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

/// How deep arrays and objects are nested, at most, in JSON that is well formed so far.
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

/// The body did not come in time.
pub(super) fn too_slow() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "The body of the request took too long.",
    )
}

/// The body is no JSON, for this reason.
pub(super) fn malformed(reason: &dyn Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        format!("The body is malformed JSON: {reason}."),
    )
}

/// The body says that it is something else than JSON, or does not say what it is.
pub(super) fn not_json() -> Problem {
    unsupported("The body must be JSON, with `Content-Type: application/json`.")
}

/// The body has more bytes than this.
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
        "The body could not be read to its end.",
    )
}
