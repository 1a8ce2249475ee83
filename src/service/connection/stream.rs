//! The stream that HTTP is spoken over: what its first bytes say of the protocol, and those bytes again for who reads it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::Protocol;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// How HTTP/2 begins (RFC 9113, section 3.4), as far as no HTTP/1 request does.
const HTTP_2_PREFACE: &[u8; 12] = b"PRI * HTTP/2";

/// A stream, and the bytes that were read of it before it was handed on.
#[derive(Debug)]
pub(super) struct Stream<T> {
    inner: T,
    read_ahead: [u8; HTTP_2_PREFACE.len()],
    read_ahead_end: usize,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            read_ahead: [0; HTTP_2_PREFACE.len()],
            read_ahead_end: 0,
        }
    }

    /// Waits for as many bytes as tell HTTP/2 from HTTP/1, which is also what anything else is taken for.
    pub(super) async fn detect_protocol(&mut self) -> io::Result<Protocol> {
        loop {
            let seen = &self.read_ahead[..self.read_ahead_end];
            if seen == HTTP_2_PREFACE {
                return Ok(Protocol::Http2);
            }
            if !HTTP_2_PREFACE.starts_with(seen) {
                return Ok(Protocol::Http1);
            }
            match self
                .inner
                .read(&mut self.read_ahead[self.read_ahead_end..])
                .await?
            {
                0 => return Ok(Protocol::Http1),
                count => self.read_ahead_end += count,
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_ahead_end > 0 {
            let count = self.read_ahead_end.min(buffer.remaining());
            buffer.put_slice(&self.read_ahead[..count]);
            let end = self.read_ahead_end;
            self.read_ahead.copy_within(count..end, 0);
            self.read_ahead_end -= count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
