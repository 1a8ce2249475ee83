//! A connection of a listener, with or without TLS.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::{self, ServerConfig, TlsStream};

/// A connection of a server, with or without TLS: one type for both kinds of listener.
///
/// ```
/// use exporter_web_config::ServerStream;
/// use tokio::net::{TcpListener, TcpStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (socket, _) = listener.accept().await?;
///
/// let stream = ServerStream::accept(socket, None).await?;
/// assert!(!stream.is_encrypted() && !stream.is_http2());
/// assert_eq!(stream.get_ref().peer_addr()?, client.local_addr()?);
/// # Ok(())
/// # }
/// ```
pub struct ServerStream<S>(Inner<S>);

enum Inner<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerStream<S> {
    /// Performs the TLS handshake, if there is a configuration. Otherwise the socket is used as it is.
    ///
    /// The handshake waits for the client without a time limit. Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// The handshake failed, for example because the client's certificate is not accepted.
    pub async fn accept(socket: S, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let Some(config) = tls else {
            return Ok(Self(Inner::Plain(socket)));
        };
        let stream = tls::accept(socket, config).await?;
        Ok(Self(Inner::Tls(Box::new(stream))))
    }
}

impl<S> ServerStream<S> {
    /// Whether the connection uses TLS.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.0, Inner::Tls(_))
    }

    /// Whether the handshake chose HTTP/2. Over TLS, HTTP/2 is never used otherwise (RFC 9113, section 3.3).
    pub fn is_http2(&self) -> bool {
        match &self.0 {
            Inner::Plain(_) => false,
            Inner::Tls(stream) => tls::is_http2(stream),
        }
    }

    /// The socket of the connection.
    pub fn get_ref(&self) -> &S {
        match &self.0 {
            Inner::Plain(socket) => socket,
            Inner::Tls(stream) => tls::socket(stream),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for ServerStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerStream")
            .field("is_encrypted", &self.is_encrypted())
            .field("socket", self.get_ref())
            .finish()
    }
}

/// Makes the same call on either variant.
macro_rules! on_either {
    ($channel:expr, $stream:ident => $call:expr) => {
        match $channel {
            Inner::Plain($stream) => $call,
            Inner::Tls($stream) => $call,
        }
    };
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_either!(&mut self.get_mut().0, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_either!(&mut self.get_mut().0, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(&mut self.get_mut().0, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(&mut self.get_mut().0, stream => Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_either!(&mut self.get_mut().0, stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        on_either!(&self.0, stream => stream.is_write_vectored())
    }
}
