//! The TLS of a connection to the receiver: the certificates, and the errors of its handshake.

use std::sync::Arc;

use rustls::crypto::ring;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::settings::{OtlpError, SettingPath, Transport};

/// The error of a handshake, which may arrive within one of the connection.
pub(super) fn handshake_error(error: &ureq::Error) -> Option<String> {
    let found = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => {
            let inner = error.get_ref()?;
            let found = inner.downcast_ref::<rustls::Error>();
            found.or_else(|| inner.source()?.downcast_ref())
        }
        _ => None,
    };
    found.map(ToString::to_string)
}

/// The certificates of a connection. Reads their files.
pub(super) fn config(settings: &Transport) -> Result<TlsConfig, OtlpError> {
    let roots = match &settings.certificate {
        Some(file) => certificates(file)?,
        None => system_certificates()?,
    };
    let client = match (&settings.client_certificate, &settings.client_key) {
        (Some(certificate), Some(key)) => Some(ClientCert::new_with_certs(
            &certificates(certificate)?,
            private_key(key)?,
        )),
        (None, None) => None,
        (Some(half), None) | (None, Some(half)) => {
            return Err(OtlpError::HalfClientCertificate(half.setting));
        }
    };
    let config = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(client)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()));
    Ok(config.build())
}

/// The authorities that the system trusts. `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
fn system_certificates() -> Result<Vec<Certificate<'static>>, OtlpError> {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return Err(OtlpError::NoSystemCertificates);
    }
    let found = found.iter();
    Ok(found
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect())
}

fn certificates(file: &SettingPath) -> Result<Vec<Certificate<'static>>, OtlpError> {
    let pem = read(file)?;
    let items: Result<Vec<_>, _> = parse_pem(&pem).collect();
    let items = items.map_err(|_| file.error("is not valid PEM"))?;
    let certificates: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(file.error("contains no certificate in PEM"));
    }
    Ok(certificates)
}

fn private_key(file: &SettingPath) -> Result<PrivateKey<'static>, OtlpError> {
    let pem = read(file)?;
    let key = parse_pem(&pem).find_map(|item| match item {
        Ok(PemItem::PrivateKey(key)) => Some(key),
        _ => None,
    });
    key.ok_or_else(|| file.error("contains no private key in PEM"))
}

fn read(file: &SettingPath) -> Result<Vec<u8>, OtlpError> {
    std::fs::read(&file.path)
        .map_err(|error| file.error(&format!("cannot be read: {}", error.kind())))
}
