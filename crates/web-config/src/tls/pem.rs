//! Certificates and keys in PEM, each with the field or setting that it comes from.

use std::fmt;
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::ConfigError;
use crate::files::ConfigFiles;

/// Certificates or a private key in PEM (RFC 7468), and the field or setting that they come from.
///
/// `Debug` shows where the contents come from, not the contents.
///
/// ```
/// use exporter_web_config::Pem;
///
/// let key = Pem::inline("MY_SERVER_KEY", "-----BEGIN PRIVATE KEY-----\n…");
/// assert_eq!(format!("{key:?}"), r#"Pem("MY_SERVER_KEY")"#);
/// ```
pub struct Pem {
    subject: String,
    bytes: Vec<u8>,
}

impl Pem {
    /// PEM that the field or setting `subject` contains. It is decoded when it is used.
    pub fn inline(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            bytes: text.into().into_bytes(),
        }
    }

    /// Reads PEM from the file that the field or setting `subject` names. It is decoded when it is used.
    pub fn read(
        subject: impl Into<String>,
        path: &Path,
        files: &mut ConfigFiles,
    ) -> Result<Self, ConfigError> {
        let subject = subject.into();
        match files.read(path) {
            Ok(bytes) => Ok(Self { subject, bytes }),
            Err(error) => Err(ConfigError::new(
                subject,
                format!("names {}, which cannot be read: {error}", path.display()),
            )),
        }
    }

    pub(crate) fn error(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::new(&self.subject, reason)
    }

    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|_| self.error("is not valid PEM"))?;
        if certificates.is_empty() {
            return Err(self.error("must contain a certificate in PEM"));
        }
        Ok(certificates)
    }

    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, ConfigError> {
        PrivateKeyDer::from_pem_slice(&self.bytes)
            .map_err(|_| self.error("must contain a private key in PEM without a passphrase"))
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pem").field(&self.subject).finish()
    }
}
