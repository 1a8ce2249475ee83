//! What stands between a socket and the HTTP that is spoken over it: nothing, or an encryption that plugs in here.

use std::future::Future;
use std::io;

use actix_http::Protocol;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How an accepted socket becomes the stream that HTTP is spoken over. Each worker gets a clone.
///
/// The time that it takes counts against the deadline of the connection's first request head.
pub(in super::super) trait Handshake: Clone + Send + 'static {
    /// What HTTP is spoken over.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Whether what passes over the socket is HTTP itself, so that a client may be told there why it is turned away.
    fn is_plain(&self) -> bool;

    /// Shakes hands. The protocol is what both sides agreed on, or `None` where the first bytes will tell.
    fn shake(
        &self,
        socket: TcpStream,
    ) -> impl Future<Output = io::Result<(Self::Stream, Option<Protocol>)>>;

    /// The socket under a stream.
    fn socket(stream: &Self::Stream) -> &TcpStream;
}

/// No handshake: HTTP in plain sight, its version told by the first bytes.
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
