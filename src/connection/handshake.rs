//! The step between an accepted socket and HTTP: nothing, or an encryption that implements this trait.

use std::{future::Future, io};

use actix_http::Protocol;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Turns an accepted socket into the stream for HTTP. Each worker gets a clone.
///
/// Its time counts against the deadline of the connection's first request head.
pub(in super::super) trait Handshake: Clone + Send + 'static {
    /// The stream for HTTP.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Whether the socket carries HTTP without encryption, so that a rejected client can be answered on it.
    fn is_plain(&self) -> bool;

    /// Does the handshake. Returns the protocol that was negotiated, or `None` if the first bytes decide it.
    fn shake(
        &self,
        socket: TcpStream,
    ) -> impl Future<Output = io::Result<(Self::Stream, Option<Protocol>)>>;

    /// The socket of a stream.
    fn socket(stream: &Self::Stream) -> &TcpStream;
}

/// No handshake: HTTP without encryption. The first bytes decide its version.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoHandshake;

impl Handshake for NoHandshake {
    type Stream = TcpStream;

    fn is_plain(&self) -> bool {
        true
    }

    async fn shake(&self, socket: TcpStream) -> io::Result<(TcpStream, Option<Protocol>)> {
        Ok((socket, None))
    }

    fn socket(stream: &TcpStream) -> &TcpStream {
        stream
    }
}
