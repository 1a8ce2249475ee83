//! Takes the place of `tls` in a build without the feature `tls`: types that have no values, and the error of a file that asks
//! for TLS.

use std::{
    convert::Infallible,
    io,
    marker::PhantomData,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::document::Section;
use crate::error::ConfigError;
use crate::files::ConfigFiles;

/// The TLS settings of a listener: none, since the feature `tls` is off.
#[derive(Debug)]
pub enum TlsSettings {}

/// The TLS configuration of a listener: none, since the feature `tls` is off.
#[derive(Debug)]
pub enum ServerConfig {}

impl TlsSettings {
    /// Whether clients are asked for a certificate.
    pub fn requests_client_certificates(&self) -> bool {
        match *self {}
    }

    /// Whether clients without a certificate are rejected.
    pub fn requires_client_certificates(&self) -> bool {
        match *self {}
    }

    /// The configuration for a listener.
    pub fn to_server_config(&self) -> Result<ServerConfig, ConfigError> {
        match *self {}
    }
}

/// Rejects `tls_server_config`, unless it is empty.
pub(crate) fn read(
    document: &mut Section<'_>,
    _directory: &Path,
    _files: &mut ConfigFiles,
    _http2: bool,
) -> Result<Option<TlsSettings>, ConfigError> {
    const SECTION: &str = "tls_server_config";
    if document.section(SECTION)?.is_empty() {
        return Ok(None);
    }
    Err(document
        .field(SECTION)
        .error("needs TLS, and this program is built without it (feature `tls`)"))
}

/// An encrypted connection: none.
pub(crate) struct TlsStream<S>(Infallible, PhantomData<S>);

#[allow(clippy::unused_async, reason = "with TLS, it waits for the client")]
pub(crate) async fn accept<S>(_: S, config: Arc<ServerConfig>) -> io::Result<TlsStream<S>> {
    match *config {}
}

pub(crate) fn is_http2<S>(stream: &TlsStream<S>) -> bool {
    match stream.0 {}
}

pub(crate) fn socket<S>(stream: &TlsStream<S>) -> &S {
    match stream.0 {}
}

impl<S: Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}

impl<S: Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}
