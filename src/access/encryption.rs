//! The handshake of a listener, with or without TLS.

use std::fmt;
use std::io;
use std::sync::Arc;

use actix_http::Protocol;
use exporter_web_config::{Reloading, ServerConfig, ServerStream};
use tokio::net::TcpStream;

use super::terms::{TermFiles, Terms};
use crate::connection::Handshake;

/// The handshake of a listener, by the terms in use when it begins.
#[derive(Clone)]
pub(in super::super) struct Encryption {
    terms: Arc<Reloading<TermFiles>>,
    select: fn(&Terms) -> Option<&Arc<ServerConfig>>,
}

impl Encryption {
    /// Uses the TLS configuration that `select` returns.
    pub(super) fn new(
        terms: Arc<Reloading<TermFiles>>,
        select: fn(&Terms) -> Option<&Arc<ServerConfig>>,
    ) -> Self {
        Self { terms, select }
    }

    /// Whether the listener uses TLS. A reload does not change it.
    pub(super) fn is_on(&self) -> bool {
        self.config().is_some()
    }

    /// The scheme of the listener's URLs.
    pub(in super::super) fn scheme(&self) -> &'static str {
        if self.is_on() { "https" } else { "http" }
    }

    fn config(&self) -> Option<Arc<ServerConfig>> {
        (self.select)(&self.terms.current()).cloned()
    }
}

impl Handshake for Encryption {
    type Stream = ServerStream<TcpStream>;

    fn is_plain(&self) -> bool {
        !self.is_on()
    }

    async fn shake(&self, socket: TcpStream) -> io::Result<(Self::Stream, Option<Protocol>)> {
        let stream = ServerStream::accept(socket, self.config()).await?;
        let protocol = if !stream.is_encrypted() {
            None
        } else if stream.is_http2() {
            Some(Protocol::Http2)
        } else {
            Some(Protocol::Http1)
        };
        Ok((stream, protocol))
    }

    fn socket(stream: &Self::Stream) -> &TcpStream {
        stream.get_ref()
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption")
            .field("is_on", &self.is_on())
            .finish_non_exhaustive()
    }
}
