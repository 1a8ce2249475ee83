//! The handshake of a listener that encrypts, or does not, and the channel that comes of it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_http::Protocol;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::terms::{InForce, Terms};
use super::tls::ALPN_HTTP_2;
use crate::connection::Handshake;

/// The handshake on the terms that are in force when it begins.
#[derive(Clone)]
pub(in super::super) struct Encryption {
    terms: Arc<InForce>,
    of: fn(&Terms) -> Option<&Arc<ServerConfig>>,
}

impl Encryption {
    /// The encryption that `of` finds in the terms; none where it finds none.
    pub(super) fn new(terms: Arc<InForce>, of: fn(&Terms) -> Option<&Arc<ServerConfig>>) -> Self {
        Self { terms, of }
    }

    /// Whether there is any.
    pub(super) fn is_on(&self) -> bool {
        (self.of)(&self.terms.get()).is_some()
    }

    /// The scheme of the URLs that lead here.
    pub(in super::super) fn scheme(&self) -> &'static str {
        if self.is_on() { "https" } else { "http" }
    }
}

impl Handshake for Encryption {
    type Stream = Channel;

    fn is_plain(&self) -> bool {
        !self.is_on()
    }

    async fn shake(&self, socket: TcpStream) -> io::Result<(Channel, Option<Protocol>)> {
        let config = (self.of)(&self.terms.get()).cloned();
        let Some(config) = config else {
            return Ok((Channel::Plain(socket), None));
        };
        let stream = TlsAcceptor::from(config).accept(socket).await?;
        // HTTP/2 is spoken over TLS only where both have said so (RFC 9113, section 3.3).
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(ALPN_HTTP_2) => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Ok((Channel::Encrypted(Box::new(stream)), Some(protocol)))
    }

    fn socket(channel: &Channel) -> &TcpStream {
        match channel {
            Channel::Plain(socket) => socket,
            Channel::Encrypted(stream) => stream.get_ref().0,
        }
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption")
            .field("is_on", &self.is_on())
            .finish_non_exhaustive()
    }
}

/// What HTTP is spoken over.
#[derive(Debug)]
pub(in super::super) enum Channel {
    /// The socket itself.
    Plain(TcpStream),
    /// The socket behind TLS.
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// Calls the same of whichever it is.
macro_rules! of_either {
    ($channel:expr, $stream:ident => $call:expr) => {
        match $channel {
            Channel::Plain($stream) => $call,
            Channel::Encrypted($stream) => $call,
        }
    };
}

impl AsyncRead for Channel {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        of_either!(self.get_mut(), stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        of_either!(self.get_mut(), stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        of_either!(self, stream => stream.is_write_vectored())
    }
}
