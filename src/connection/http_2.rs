//! HTTP/2: serves the requests of one connection concurrently, each on its own stream.
//!
//! Actix' own dispatcher has no limits on streams, heads and unsent data, and it completes requests that their clients have
//! cancelled. This one has the limits, and drops a cancelled request.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use actix_http::{
    BoxedPayloadStream, Method, Payload, Request, Response, ResponseHead, StatusCode,
    body::{BodySize, BoxBody, MessageBody},
    error::{DispatchError, PayloadError},
    header::{self, HeaderName, HeaderValue, HttpDate, TryIntoHeaderValue as _},
};
use actix_service::Service;
use actix_web::{rt, web::Bytes};
use futures_core::Stream;
use h2_0_3::{
    Reason, RecvStream, SendStream,
    server::{Builder, Connection, SendResponse},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Duration, Instant, sleep_until},
};

use super::{closing::PATIENCE, slots::MAX_STREAMS, state::ConnectionState, watch::Watch};

/// How many bytes a client may send before they are read: of one request's body, and of all bodies of the connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Most bytes of one answer that are buffered until they are sent.
const SEND_BUFFER: usize = 64 * 1024;

/// Most bytes of a data frame.
const CHUNK: usize = 16 * 1024;

/// How long an unused connection stays open at a shutdown if its client does not acknowledge the announced end, which h2 waits
/// for.
const UNACKNOWLEDGED: Duration = Duration::from_secs(1);

/// How long after the announced end requests are accepted from a client that does not acknowledge it. Envoy and gRPC wait as
/// long.
const NOTICE: Duration = Duration::from_secs(5);

/// Serves a connection to its end. At a shutdown it announces the end (GOAWAY), and answers the requests that were sent before
/// the client knew. Once it should know, requests are rejected unread, so that it can send them elsewhere.
pub(super) async fn serve<T, S, B>(
    io: T,
    app: Rc<Watch<S, B>>,
    state: Rc<ConnectionState>,
    peer: SocketAddr,
) -> Result<(), DispatchError>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request>,
    S::Future: 'static,
    S::Error: Into<Response<BoxBody>>,
    S::Response: Into<Response<B>>,
    B: MessageBody + 'static,
{
    let handshake = Builder::new()
        .max_concurrent_streams(MAX_STREAMS.into())
        .max_header_list_size(state.header_list_bytes())
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(io);
    let mut closing = pin!(state.closing());
    let mut connection = tokio::select! {
        biased;
        shaken = handshake => shaken.map_err(DispatchError::H2)?,
        () = &mut closing => return Ok(()),
    };
    let begin = |request: http_0_2::Request<RecvStream>, respond| {
        let (head, body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let served = app.serve(Rc::clone(&state), translate(head, body, peer));
        rt::spawn(answer(served, respond, is_head));
    };
    if accept_until(closing, &mut connection, begin).await? == Accepted::All {
        return Ok(());
    }
    // Requests that have begun, and those that are on their way, are still answered.
    connection.graceful_shutdown();
    let announced = Instant::now();
    let accept = |request, mut respond: SendResponse<Bytes>| {
        if announced.elapsed() < NOTICE {
            begin(request, respond);
        } else {
            respond.send_reset(Reason::REFUSED_STREAM);
        }
    };
    accept_until(unused(&state, announced), &mut connection, accept).await?;
    Ok(())
}

/// Why no further request is accepted.
#[derive(Debug, PartialEq, Eq)]
enum Accepted {
    /// The connection has ended.
    All,
    /// `stop` has resolved.
    UntilStop,
}

/// Begins each request of the connection, until it ends or `stop` resolves.
async fn accept_until<T>(
    stop: impl Future<Output = ()>,
    connection: &mut Connection<T, Bytes>,
    begin: impl Fn(http_0_2::Request<RecvStream>, SendResponse<Bytes>),
) -> Result<Accepted, DispatchError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = connection.accept() => accepted,
            () = &mut stop => return Ok(Accepted::UntilStop),
        };
        let Some(accepted) = accepted else {
            return Ok(Accepted::All);
        };
        let (request, respond) = accepted.map_err(DispatchError::H2)?;
        begin(request, respond);
    }
}

/// Waits until the client of a connection whose end is announced has had the time to read its last answer and to acknowledge
/// the end.
async fn unused(state: &ConnectionState, announced: Instant) {
    let mut next = announced + UNACKNOWLEDGED;
    loop {
        sleep_until(next).await;
        let now = Instant::now();
        next = match state.idle_since() {
            Some(since) => since + PATIENCE,
            None => now + UNACKNOWLEDGED,
        };
        if next <= now {
            return;
        }
    }
}

/// The request as Actix applications take it.
fn translate(head: http_0_2::request::Parts, body: RecvStream, peer: SocketAddr) -> Request {
    let payload = if body.is_end_stream() {
        Payload::None
    } else {
        let payload: BoxedPayloadStream = Box::pin(Http2RequestBody(body));
        Payload::Stream { payload }
    };
    let mut request = Request::with_payload(payload);
    let translated = request.head_mut();
    translated.uri = head.uri;
    translated.method = head.method;
    translated.version = head.version;
    translated.headers = head.headers.into();
    translated.peer_addr = Some(peer);
    request
}

/// The body of a request. Reading it lets the client send more.
struct Http2RequestBody(RecvStream);

impl Stream for Http2RequestBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let read = ready!(self.0.poll_data(context));
        Poll::Ready(read.map(|part| {
            let part = part?;
            self.0.flow_control().release_capacity(part.len())?;
            Ok(part)
        }))
    }
}

/// Waits for the application and sends its answer. Drops both if the client cancels the request.
async fn answer<F, B>(served: F, mut respond: SendResponse<Bytes>, is_head: bool)
where
    F: Future<Output = Result<Response<B>, Response<BoxBody>>>,
    B: MessageBody,
{
    let answered = {
        let mut served = pin!(served);
        poll_fn(|context| match respond.poll_reset(context) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => served.as_mut().poll(context).map(Some),
        })
        .await
    };
    match answered {
        Some(Ok(response)) => send(response, respond, is_head).await,
        Some(Err(response)) => send(response, respond, is_head).await,
        None => (),
    }
}

/// Sends an answer as fast as the client reads it.
async fn send<B: MessageBody>(
    response: Response<B>,
    mut respond: SendResponse<Bytes>,
    is_head: bool,
) {
    let (response, body) = response.into_parts();
    let mut body = pin!(body);
    let size = match response.status() {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => BodySize::None,
        _ => body.size(),
    };
    let is_whole = is_head || size.is_eof();
    let Ok(mut stream) = respond.send_response(head(response.head(), size), is_whole) else {
        // The client has left or cancelled the request.
        return;
    };
    if is_whole {
        return;
    }
    let mut left = match size {
        BodySize::Sized(bytes) => bytes,
        BodySize::None | BodySize::Stream => u64::MAX,
    };
    loop {
        let part = poll_fn(|context| match stream.poll_reset(context) {
            Poll::Ready(_) => Poll::Ready(Err(())),
            Poll::Pending => body.as_mut().poll_next(context).map(Ok),
        });
        match part.await {
            Ok(Some(Ok(part))) => {
                left = left.saturating_sub(part.len() as u64);
                if send_part(&mut stream, part, left == 0).await.is_err() {
                    return;
                }
                if left == 0 {
                    return read_end(body).await;
                }
            }
            Ok(Some(Err(_))) => return stream.send_reset(Reason::INTERNAL_ERROR),
            // The body is shorter than its `Content-Length`.
            Ok(None) if matches!(size, BodySize::Sized(_)) => {
                return stream.send_reset(Reason::INTERNAL_ERROR);
            }
            Ok(None) => {
                // Fails only if the client has left.
                let _gone = stream.send_data(Bytes::new(), true);
                return;
            }
            Err(()) => return,
        }
    }
}

/// Asks a body for its end after its last byte. A body that is dropped before counts as cut off.
async fn read_end<B: MessageBody>(mut body: Pin<&mut B>) {
    poll_fn(|context| {
        drop(body.as_mut().poll_next(context));
        Poll::Ready(())
    })
    .await;
}

/// Sends a part of a body when the client has room for it. Fails if the client has left. The last part ends the stream
/// without another frame.
async fn send_part(
    stream: &mut SendStream<Bytes>,
    mut part: Bytes,
    is_last: bool,
) -> Result<(), ()> {
    while !part.is_empty() {
        stream.reserve_capacity(part.len().min(CHUNK));
        let room = poll_fn(|context| stream.poll_capacity(context)).await;
        let Some(Ok(room)) = room else {
            return Err(());
        };
        let chunk = part.split_to(room.min(part.len()));
        let ends = is_last && part.is_empty();
        stream.send_data(chunk, ends).map_err(drop)?;
    }
    Ok(())
}

/// The head of an answer, without the headers that only HTTP/1 has (RFC 9113, section 8.2.2).
fn head(response: &ResponseHead, size: BodySize) -> http_0_2::Response<()> {
    let mut head = http_0_2::Response::new(());
    *head.status_mut() = response.status;
    *head.version_mut() = http_0_2::Version::HTTP_2;
    let headers = head.headers_mut();
    for (name, value) in response.headers() {
        let is_replaced = *name == header::CONTENT_LENGTH && size != BodySize::Stream;
        if !is_replaced && !is_of_http_1(name) {
            headers.append(name, value.clone());
        }
    }
    if let BodySize::Sized(bytes) = size {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    if !headers.contains_key(header::DATE)
        && let Ok(now) = HttpDate::from(SystemTime::now()).try_into_value()
    {
        headers.insert(header::DATE, now);
    }
    head
}

fn is_of_http_1(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ]
    .contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
