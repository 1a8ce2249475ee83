//! What a client is told whose connection ends, or whose request is turned away, before any application heard of it;
//! and how a connection is closed so that it hears it.

use std::fmt::Write as _;
use std::io;

use actix_http::body::BoxBody;
use actix_http::{ConnectionType, Response, StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Duration, timeout};

use super::handshake::Handshake;
use super::state::RequestRejection;
use actix_vitals::http::ConnectionOutcome;
use actix_vitals::problem::{CONTENT_TYPE, Problem};

/// How long a connection that is being closed may take to take its leave.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// When to try again, in seconds, after being turned away.
const RETRY_AFTER_SECONDS: u32 = 1;

/// A frame that says good-bye in HTTP/2, without an error (RFC 9113, section 6.8): eight bytes on stream 0, the last
/// stream that may have been served being any there is.
const GO_AWAY: [u8; 17] = [
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0,
];

/// Why a request is turned away.
pub(super) fn problem(refusal: RequestRejection) -> Problem {
    match refusal {
        RequestRejection::HeadersTooLarge => headers_too_large(),
        RequestRejection::TooManyRequests => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "There are too many requests at a time. Try again in a moment.",
        )
        .retry_after(RETRY_AFTER_SECONDS),
    }
}

/// The answer to a request that is turned away, as the last of its connection.
pub(super) fn response(refusal: RequestRejection) -> Response<BoxBody> {
    let mut response = Response::from(problem(refusal).to_response());
    response
        .head_mut()
        .set_connection_type(ConnectionType::Close);
    response
}

/// The last words on a connection with this outcome, as they stand on the wire; empty where there is nothing to say.
pub(super) fn closing_response(outcome: ConnectionOutcome, is_multiplexed: bool) -> Vec<u8> {
    if is_multiplexed {
        return GO_AWAY.to_vec();
    }
    match outcome {
        ConnectionOutcome::HeadTimeout => http_1(
            &Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "The head of the request took too long.",
            ),
            None,
        ),
        ConnectionOutcome::HeadersTooLarge => http_1(&headers_too_large(), None),
        ConnectionOutcome::RefusedTotal | ConnectionOutcome::RefusedAddress => http_1(
            &Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "There are too many connections. Try again in a moment.",
            ),
            Some(RETRY_AFTER_SECONDS),
        ),
        _ => Vec::new(),
    }
}

fn headers_too_large() -> Problem {
    Problem::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The head of the request has too many headers, or too large ones.",
    )
}

/// The problem as an answer of HTTP/1.1, after which the connection ends.
fn http_1(problem: &Problem, retry_after: Option<u32>) -> Vec<u8> {
    // Strings and a number always serialise.
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut head = format!(
        "HTTP/1.1 {}\r\n{}: {}\r\n{}: {}\r\n{}: close\r\n",
        problem.status(),
        header::CONTENT_TYPE,
        CONTENT_TYPE,
        header::CONTENT_LENGTH,
        body.len(),
        header::CONNECTION,
    );
    if let Some(seconds) = retry_after {
        // Writing to a string never fails.
        let _written = write!(head, "{}: {seconds}\r\n", header::RETRY_AFTER);
    }
    head.push_str("\r\n");
    [head.into_bytes(), body].concat()
}

/// Says the last words and closes, so that they arrive: reads what still comes, for to close before would reset the
/// connection. A peer that takes longer than a moment is cut off, with all that the system still holds for it.
pub(super) async fn close_politely<H: Handshake>(mut stream: H::Stream, words: &[u8]) {
    let parted = timeout(CLOSE_TIMEOUT, async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        let mut unheard = [0; 1024];
        while stream.read(&mut unheard).await? > 0 {}
        io::Result::Ok(())
    });
    if !matches!(parted.await, Ok(Ok(()))) {
        cut::<H>(&stream);
    }
}

/// Has the connection reset once the stream is dropped, and nothing kept for it.
pub(super) fn cut<H: Handshake>(stream: &H::Stream) {
    // It fails only where the connection is gone already.
    let _gone = H::socket(stream).set_zero_linger();
}
