//! The TLS settings of a listener, and the conversion to a rustls configuration.
//!
//! All that needs rustls is in this module: it is left out of a build without the feature `tls`, and `without_tls` takes its
//! place.

mod cipher;
mod client_names;
mod pem;
mod section;

use std::{io, sync::Arc};

pub use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, SupportedCipherSuite, SupportedProtocolVersion, version};
pub(crate) use tokio_rustls::server::TlsStream;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use self::client_names::NamedClients;
use crate::error::ConfigError;

pub use self::pem::Pem;
pub(crate) use self::section::read;

/// The section of the web configuration file.
const SECTION: &str = "tls_server_config";

/// The names of the protocols in the TLS handshake (RFC 7301).
const ALPN_HTTP_2: &[u8] = b"h2";
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// The TLS settings of a listener: certificate and key, versions, cipher suites, client certificates.
///
/// [`WebConfig::read`](crate::WebConfig::read) returns those of a file. [`TlsSettings::new`] is for a certificate and a key
/// from elsewhere.
///
/// ```
/// use exporter_web_config::{Pem, TlsSettings};
/// # let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
/// # let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
///
/// let settings = TlsSettings::new(Pem::inline("MY_CERT", certificate), Pem::inline("MY_KEY", key));
/// let config = settings.to_server_config()?;
/// assert_eq!(config.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TlsSettings {
    /// The certificate, followed by those of its issuers.
    pub(crate) certificate: Pem,
    /// The certificate's private key.
    pub(crate) key: Pem,
    /// Which client certificates are requested; `None` if none are.
    pub(crate) client_auth: Option<ClientAuth>,
    /// The accepted versions.
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    /// The offered cipher suites, in order of preference.
    pub(crate) suites: Vec<SupportedCipherSuite>,
    /// The offered groups for the key exchange, in order of preference.
    pub(crate) groups: Vec<&'static dyn SupportedKxGroup>,
    /// Whether the server's order of suites has precedence over the client's.
    pub(crate) prefer_server_order: bool,
    /// Whether HTTP/2 is offered.
    pub(crate) http2: bool,
}

/// Which client certificates are requested and verified.
#[derive(Debug)]
pub(crate) struct ClientAuth {
    /// The authorities that must have issued a client's certificate.
    pub(crate) authorities: Pem,
    /// Whether a client without a certificate is rejected.
    pub(crate) mandatory: bool,
    /// Names of which the certificate must have one. Without names, every verified certificate is accepted.
    pub(crate) names: Vec<String>,
}

impl TlsSettings {
    /// The default settings for a certificate and its key: TLS 1.2 and 1.3, HTTP/2, no client certificates.
    pub fn new(certificate: Pem, key: Pem) -> Self {
        Self {
            certificate,
            key,
            client_auth: None,
            versions: vec![&version::TLS12, &version::TLS13],
            suites: ring::ALL_CIPHER_SUITES.to_vec(),
            groups: ring::ALL_KX_GROUPS.to_vec(),
            prefer_server_order: true,
            http2: true,
        }
    }

    /// Whether clients are asked for a certificate.
    pub fn requests_client_certificates(&self) -> bool {
        self.client_auth.is_some()
    }

    /// Whether clients without a certificate are rejected.
    pub fn requires_client_certificates(&self) -> bool {
        self.client_auth.as_ref().is_some_and(|it| it.mandatory)
    }

    /// Decodes certificate and key, and returns the configuration for rustls.
    ///
    /// # Errors
    ///
    /// PEM that cannot be decoded, and a key that does not belong to the certificate.
    pub fn to_server_config(&self) -> Result<ServerConfig, ConfigError> {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: self.suites.clone(),
            kx_groups: self.groups.clone(),
            ..ring::default_provider()
        });
        let verifier = self.client_verifier(&provider)?;
        let certificates = self.certificate.certificates()?;
        let key = self.key.private_key()?;
        let unusable = |error: rustls::Error| self.certificate.error(reason(&error));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, key)
            .map_err(unusable)?;
        config.ignore_client_order = self.prefer_server_order;
        config.alpn_protocols = if self.http2 {
            vec![ALPN_HTTP_2.to_vec(), ALPN_HTTP_1_1.to_vec()]
        } else {
            vec![ALPN_HTTP_1_1.to_vec()]
        };
        Ok(config)
    }

    fn client_verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
        let Some(clients) = &self.client_auth else {
            return Ok(WebPkiClientVerifier::no_client_auth());
        };
        let authorities = &clients.authorities;
        let mut roots = RootCertStore::empty();
        for certificate in authorities.certificates()? {
            roots
                .add(certificate)
                .map_err(|_| authorities.error("contains a certificate that is not valid"))?;
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = if clients.mandatory {
            builder
        } else {
            builder.allow_unauthenticated()
        };
        let verifier = builder
            .build()
            .map_err(|error| authorities.error(format!("cannot be used: {error}")))?;
        if clients.names.is_empty() {
            return Ok(verifier);
        }
        let names = clients.names.clone();
        Ok(Arc::new(NamedClients::new(verifier, names)))
    }
}

/// Describes a problem of a certificate with its key.
fn reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "does not belong to the key".to_owned(),
        error => format!("cannot be used with its key: {error}"),
    }
}

/// Performs the handshake of a server.
pub(crate) async fn accept<S>(socket: S, config: Arc<ServerConfig>) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    TlsAcceptor::from(config).accept(socket).await
}

/// Whether the handshake chose HTTP/2.
pub(crate) fn is_http2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP_2)
}

/// The socket below the encryption.
pub(crate) fn socket<S>(stream: &TlsStream<S>) -> &S {
    stream.get_ref().0
}
