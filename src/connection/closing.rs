//! The responses to connections and requests that end before an application sees them, and the lingering close that lets
//! such a response arrive.

use std::{fmt::Write as _, io};

use actix_http::{ConnectionType, Response, StatusCode, body::BoxBody, header};
use actix_vitals::{
    http::ConnectionOutcome,
    problem::{CONTENT_TYPE, Problem},
};
use socket2::{SockRef, Socket};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Duration, Instant, timeout},
};

use super::{handshake::Handshake, state::RequestRejection};

/// How long a lingering close may take.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a peer that may still read an answer may be silent. nginx waits as long.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Seconds after which a rejected client may try again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// A frame GOAWAY of HTTP/2 without an error (RFC 9113, section 6.8): eight bytes on stream 0, with the highest stream
/// number, because any stream may have been served.
const GO_AWAY: [u8; 17] = [
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0,
];

/// The problem of a rejected request.
pub(super) fn problem(rejection: RequestRejection) -> Problem {
    match rejection {
        RequestRejection::HeadersTooLarge => headers_too_large(),
        RequestRejection::TooManyRequests => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "There are too many requests at a time. Try again in a moment.",
        )
        .retry_after(RETRY_AFTER_SECONDS),
    }
}

/// The response to a rejected request of HTTP/1, which is the last of its connection.
pub(super) fn response(rejection: RequestRejection) -> Response<BoxBody> {
    let mut response = Response::from(problem(rejection).to_response());
    response
        .head_mut()
        .set_connection_type(ConnectionType::Close);
    response
}

/// The bytes of the last response on a connection with this outcome. Empty if there is none.
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

/// The problem as a response of HTTP/1.1 that closes the connection.
fn http_1(problem: &Problem, retry_after: Option<u32>) -> Vec<u8> {
    // Serializing strings and a number cannot fail.
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

/// Sends a last response and closes the connection so that it arrives: reads and discards what the peer still sends, because
/// closing with unread data resets the connection (RFC 9112, section 9.6). Resets it if the peer takes longer than
/// [`CLOSE_TIMEOUT`].
pub(super) async fn close_politely<H: Handshake>(mut stream: H::Stream, response: &[u8]) {
    let closed = timeout(CLOSE_TIMEOUT, async {
        stream.write_all(response).await?;
        stream.shutdown().await?;
        discard(&mut stream, CLOSE_TIMEOUT).await
    });
    if !matches!(closed.await, Ok(Ok(()))) {
        cut::<H>(&stream);
    }
}

/// How long a connection that has ended waits for a peer that may still read an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lingering {
    /// How long the peer may be silent, once the system has sent everything.
    silence: Duration,
    /// The longest time in total.
    longest: Duration,
}

impl Lingering {
    /// A peer that was served for the last time long ago has read its answer: it does not answer because it hangs. "Long ago"
    /// is twice [`PATIENCE`], because a peer that does not acknowledge the end of HTTP/2 was given it once.
    pub(super) fn new(idle_since: Option<Instant>, longest: Duration) -> Self {
        let hangs = idle_since.is_some_and(|since| since.elapsed() > 2 * PATIENCE);
        let silence = if hangs { CLOSE_TIMEOUT } else { PATIENCE };
        Self { silence, longest }
    }
}

/// Like [`close_politely`], but without a reset, for a peer that may still read an answer. The system goes on to send it.
///
/// Over HTTP/2 such a peer sends frames as it reads, and a frame that arrives after the end resets the connection. So this waits
/// until the system has sent everything, and then reads until no frame comes for a while. The system ends a connection whose
/// peer reads nothing (`TCP_USER_TIMEOUT`).
pub(super) async fn close_gently<H: Handshake>(
    mut stream: H::Stream,
    response: &[u8],
    Lingering { silence, longest }: Lingering,
) {
    let closed = timeout(longest, async {
        timeout(PATIENCE, stream.write_all(response)).await??;
        let socket = SockRef::from(H::socket(&stream)).try_clone();
        tokio::select! {
            // Fails if there is no file descriptor left. Then it is not known.
            _unknown = all_sent(socket) => (),
            left = discard(&mut stream, longest) => return left,
        }
        timeout(PATIENCE, stream.shutdown()).await??;
        discard(&mut stream, silence).await
    });
    // Too late, or the peer has left.
    let _ended = closed.await;
}

/// Waits until the system has sent all bytes that it has accepted. The socket must be open for writing.
async fn all_sent(socket: io::Result<Socket>) -> io::Result<()> {
    let socket = socket?;
    // From now on the socket is writable only without unsent bytes.
    socket.set_tcp_notsent_lowat(1)?;
    // Registered once more, because the runtime remembers of the stream that it was writable.
    TcpStream::from_std(socket.into())?.writable().await
}

/// Reads up to the end of the stream. Fails if nothing comes for so long.
async fn discard(stream: &mut (impl AsyncRead + Unpin), silence: Duration) -> io::Result<()> {
    let mut discarded = [0; 1024];
    while timeout(silence, stream.read(&mut discarded)).await?? > 0 {}
    Ok(())
}

/// Makes the system reset the connection when the stream is dropped, and discard its unsent data.
pub(super) fn cut<H: Handshake>(stream: &H::Stream) {
    // Fails only if the connection no longer exists.
    let _gone = H::socket(stream).set_zero_linger();
}
