//! The terms of encryption, and what rustls makes of them: certificate and key, versions and suites, and whose
//! certificates are asked for.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{
    RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version,
};

use super::client_names::NamedClients;
use super::files::Files;
use super::refusal::Refusal;

/// The protocols by their names in the handshake (RFC 7301).
pub(super) const ALPN_HTTP_2: &[u8] = b"h2";
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// What is encoded as PEM (RFC 7468), and where it was said to be.
pub(super) struct Pem {
    subject: String,
    bytes: Vec<u8>,
}

/// How a listener encrypts.
#[derive(Debug)]
pub(super) struct TlsTerms {
    /// The certificate, and those that lead to the authority that signed it.
    pub(super) certificate: Pem,
    /// The certificate's private key.
    pub(super) key: Pem,
    /// Whose certificates are asked for.
    pub(super) client_auth: Option<ClientAuth>,
    /// The versions that are spoken.
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    /// The suites that are offered, in their order.
    pub(super) suites: Vec<SupportedCipherSuite>,
    /// The groups for the exchange of keys, in their order.
    pub(super) groups: Vec<&'static dyn SupportedKxGroup>,
    /// Whether the server's order of suites goes before the client's.
    pub(super) prefer_server_order: bool,
    /// Whether HTTP/2 is offered.
    pub(super) http2: bool,
}

/// Whose certificates are asked for, and verified.
#[derive(Debug)]
pub(super) struct ClientAuth {
    /// The authorities that clients' certificates are verified against.
    pub(super) authorities: Pem,
    /// Whether a client must have one.
    pub(super) mandatory: bool,
    /// Names of which it must have one; any will do where there is none.
    pub(super) names: Vec<String>,
}

impl Pem {
    /// What was written where `subject` says.
    pub(super) fn inline(subject: impl Into<String>, text: String) -> Self {
        Self {
            subject: subject.into(),
            bytes: text.into_bytes(),
        }
    }

    /// What stands in a file that `subject` names.
    pub(super) fn read(
        subject: impl Into<String>,
        path: &Path,
        files: &mut Files,
    ) -> Result<Self, Refusal> {
        let subject = subject.into();
        match files.read(path) {
            Ok(bytes) => Ok(Self { subject, bytes }),
            Err(error) => Err(Refusal::new(
                subject,
                format!("names {}, which cannot be read: {error}", path.display()),
            )),
        }
    }

    fn refuse(&self, reason: impl Into<String>) -> Refusal {
        Refusal::new(&self.subject, reason)
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Refusal> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|_| self.refuse("is not valid PEM"))?;
        if certificates.is_empty() {
            return Err(self.refuse("holds no certificate in PEM"));
        }
        Ok(certificates)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, Refusal> {
        PrivateKeyDer::from_pem_slice(&self.bytes)
            .map_err(|_| self.refuse("holds no private key in PEM, without a passphrase"))
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pem").field(&self.subject).finish()
    }
}

impl TlsTerms {
    /// The terms that nothing more is said about than the certificate and its key.
    pub(super) fn new(certificate: Pem, key: Pem) -> Self {
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

    /// Whether every client must show a certificate.
    pub(super) fn demands_certificates(&self) -> bool {
        self.client_auth.as_ref().is_some_and(|it| it.mandatory)
    }

    /// What rustls makes of them.
    pub(super) fn to_server_config(&self) -> Result<ServerConfig, Refusal> {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: self.suites.clone(),
            kx_groups: self.groups.clone(),
            ..ring::default_provider()
        });
        let verifier = self.client_verifier(&provider)?;
        let certificates = self.certificate.certificates()?;
        let key = self.key.private_key()?;
        let refuse = |error: rustls::Error| self.certificate.refuse(reason(&error));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .map_err(refuse)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, key)
            .map_err(refuse)?;
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
    ) -> Result<Arc<dyn ClientCertVerifier>, Refusal> {
        let Some(clients) = &self.client_auth else {
            return Ok(WebPkiClientVerifier::no_client_auth());
        };
        let authorities = &clients.authorities;
        let mut roots = RootCertStore::empty();
        for certificate in authorities.certificates()? {
            roots
                .add(certificate)
                .map_err(|_| authorities.refuse("holds a certificate that is not valid"))?;
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
            .map_err(|error| authorities.refuse(format!("cannot be used: {error}")))?;
        if clients.names.is_empty() {
            return Ok(verifier);
        }
        let names = clients.names.clone();
        Ok(Arc::new(NamedClients::new(verifier, names)))
    }
}

/// What is wrong with a certificate and its key.
fn reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "is not the certificate of the key".to_owned(),
        error => format!("cannot be used with its key: {error}"),
    }
}
