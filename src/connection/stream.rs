//! The stream under HTTP. It detects the protocol by the first bytes, and reports to the connection's state what it reads and
//! cannot write.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_http::Protocol;
use actix_web::web::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::{
    header_blocks::Excess,
    state::{ConnectionState, MAX_BYTES_AHEAD},
};

/// The first bytes of HTTP/2 (RFC 9113, section 3.4). No request of HTTP/1 starts with them.
const HTTP_2_PREFACE: &[u8; 12] = b"PRI * HTTP/2";

/// The first bytes of a stream, which decide its protocol.
#[derive(Debug, Default)]
pub(super) struct FirstBytes {
    bytes: [u8; HTTP_2_PREFACE.len()],
    count: usize,
}

impl FirstBytes {
    /// Waits for as many bytes as distinguish HTTP/2 from HTTP/1. Anything else counts as HTTP/1.
    pub(super) async fn detect_protocol(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Protocol> {
        loop {
            let seen = &self.bytes[..self.count];
            if seen == HTTP_2_PREFACE {
                return Ok(Protocol::Http2);
            }
            if !HTTP_2_PREFACE.starts_with(seen) {
                return Ok(Protocol::Http1);
            }
            match stream.read(&mut self.bytes[self.count..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.count += count,
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Receives the inner stream when its [`ConnectionStream`] is dropped.
pub(super) type Returned<T> = Rc<Cell<Option<T>>>;

/// A stream that starts with the bytes that were read for the detection.
pub(super) struct ConnectionStream<T> {
    /// `None` once it is returned.
    inner: Option<T>,
    /// Bytes that were read and not passed on: the first ones, and with HTTP/1 those after the request in service.
    held: BytesMut,
    state: Rc<ConnectionState>,
    returned: Returned<T>,
}

impl<T> ConnectionStream<T> {
    pub(super) fn new(inner: T, first: &FirstBytes, state: Rc<ConnectionState>) -> Self {
        Self {
            inner: Some(inner),
            held: BytesMut::from(&first.bytes[..first.count]),
            state,
            returned: Rc::default(),
        }
    }

    pub(super) fn state(&self) -> &Rc<ConnectionState> {
        &self.state
    }

    /// Receives the inner stream when this one is dropped.
    pub(super) fn returned(&self) -> Returned<T> {
        Rc::clone(&self.returned)
    }

    fn inner(&mut self) -> io::Result<Pin<&mut T>>
    where
        T: Unpin,
    {
        let inner = self.inner.as_mut().map(Pin::new);
        inner.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<T> Drop for ConnectionStream<T> {
    fn drop(&mut self) {
        self.returned.set(self.inner.take());
    }
}

impl<T: AsyncRead + Unpin> ConnectionStream<T> {
    /// Reads bytes that must not be passed on yet, so that a client that leaves meanwhile is noticed. Resolves when the
    /// stream has ended. Uses `room` as a buffer, and leaves it unchanged.
    fn read_ahead(
        &mut self,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        // Between two requests, the loop stops at the first bytes: the next request is served even if its client has closed
        // its side.
        while self.held.is_empty() || self.state.is_serving() && self.held.len() < MAX_BYTES_AHEAD {
            let Poll::Ready(read) = self.inner()?.poll_read(context, room) else {
                break;
            };
            read?;
            let bytes = &room.filled()[before..];
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(bytes);
            room.set_filled(before);
        }
        if !self.held.is_empty() {
            self.state.await_next(context.waker());
        }
        Poll::Pending
    }

    /// Passes on the held bytes that belong to one request.
    fn pass_on_held(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let offered = &self.held[..self.held.len().min(buffer.remaining())];
        let taken = self.state.read(offered).map_err(invalid)?;
        buffer.put_slice(&self.held.split_to(taken));
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        Ok(())
    }
}

fn invalid(_: Excess) -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl<T: AsyncRead + Unpin> AsyncRead for ConnectionStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.state.is_full() {
            self.state.park(context.waker());
            return Poll::Pending;
        }
        if !self.state.is_open() {
            return self.read_ahead(context, buffer);
        }
        if !self.held.is_empty() {
            return Poll::Ready(self.pass_on_held(buffer));
        }
        let before = buffer.filled().len();
        let read = self.inner()?.poll_read(context, buffer);
        let bytes = &buffer.filled()[before..];
        if bytes.is_empty() {
            return read;
        }
        match self.state.read(bytes) {
            Ok(taken) => {
                self.held.extend_from_slice(&bytes[taken..]);
                buffer.set_filled(before + taken);
                read
            }
            Err(error) => {
                buffer.set_filled(before);
                Poll::Ready(Err(invalid(error)))
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> ConnectionStream<T> {
    /// Reports whether the socket accepted the bytes.
    fn report<R>(&self, written: Poll<R>) -> Poll<R> {
        match &written {
            Poll::Pending => self.state.blocked(),
            Poll::Ready(_) => self.state.wrote(),
        }
        written
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ConnectionStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.inner()?.poll_write(context, bytes);
        self.report(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.inner()?.poll_flush(context);
        self.report(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = self.inner()?.poll_shutdown(context);
        self.report(shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.inner()?.poll_write_vectored(context, slices);
        self.report(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(T::is_write_vectored)
    }
}
