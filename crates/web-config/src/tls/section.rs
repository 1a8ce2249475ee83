//! The section `tls_server_config` of the web configuration file.

use std::path::Path;

use super::cipher;
use super::pem::Pem;
use super::{ClientAuth, SECTION, TlsSettings};
use crate::document::Section;
use crate::error::ConfigError;
use crate::files::ConfigFiles;

/// Reads certificates and keys in PEM.
struct PemReader<'a> {
    directory: &'a Path,
    files: &'a mut ConfigFiles,
}

impl PemReader<'_> {
    /// Reads PEM from the document itself (`cert`), or from the file that it names (`cert_file`).
    fn read(&mut self, section: &mut Section<'_>, name: &str) -> Result<Option<Pem>, ConfigError> {
        let file_name = format!("{name}_file");
        let at_file = section.field(&file_name);
        let inline = section.text(name)?;
        let file = section.text(&file_name)?;
        match (inline, file) {
            (None, None) => Ok(None),
            (Some(text), None) => Ok(Some(Pem::inline(section.field(name).to_string(), text))),
            (None, Some(path)) => {
                let path = self.directory.join(path);
                Pem::read(at_file.to_string(), &path, self.files).map(Some)
            }
            (Some(_), Some(_)) => {
                Err(at_file.error(format!("must not be set together with {name}")))
            }
        }
    }
}

/// Reads `tls_server_config`. Relative paths in it are relative to `directory`.
pub(crate) fn read(
    document: &mut Section<'_>,
    directory: &Path,
    files: &mut ConfigFiles,
    http2: bool,
) -> Result<Option<TlsSettings>, ConfigError> {
    let mut section = document.section(SECTION)?;
    if section.is_empty() {
        return Ok(None);
    }
    let pems = &mut PemReader { directory, files };
    let certificate = pems.read(&mut section, "cert")?;
    let key = pems.read(&mut section, "key")?;
    let versions = cipher::read_versions(&mut section)?;
    let suites = cipher::read_suites(&mut section, &versions)?;
    let groups = cipher::read_curves(&mut section)?;
    let prefer_server_order = section.boolean("prefer_server_cipher_suites", true)?;
    let client_auth = read_client_auth(&mut section, pems)?;
    let missing = |name: &str| {
        let reason = "is missing: TLS needs a certificate and its key";
        section.field(name).error(reason)
    };
    let (no_certificate, no_key) = (missing("cert_file"), missing("key_file"));
    section.finish()?;
    Ok(Some(TlsSettings {
        certificate: certificate.ok_or(no_certificate)?,
        key: key.ok_or(no_key)?,
        client_auth,
        versions,
        suites,
        groups,
        prefer_server_order,
        http2,
    }))
}

/// Reads `client_auth_type` (a `ClientAuthType` of Go), `client_ca` and `client_allowed_sans`.
fn read_client_auth(
    section: &mut Section<'_>,
    pems: &mut PemReader<'_>,
) -> Result<Option<ClientAuth>, ConfigError> {
    let at = section.field("client_auth_type");
    let at_authorities = section.field("client_ca_file");
    let at_names = section.field("client_allowed_sans");
    let mode = section.text("client_auth_type")?;
    let authorities = pems.read(section, "client_ca")?;
    let names = section.texts("client_allowed_sans")?;
    let mandatory = match mode.as_deref() {
        None | Some("NoClientCert") => {
            let no_effect = "has no effect without client_auth_type: RequireAndVerifyClientCert";
            if authorities.is_some() {
                return Err(at_authorities.error(no_effect));
            }
            if !names.is_empty() {
                return Err(at_names.error(no_effect));
            }
            return Ok(None);
        }
        Some("RequireAndVerifyClientCert") => true,
        Some("VerifyClientCertIfGiven") => false,
        Some(unverified @ ("RequestClientCert" | "RequireAnyClientCert")) => {
            return Err(at.error(format!(
                "must not be {unverified}, which verifies no certificate: use RequireAndVerifyClientCert"
            )));
        }
        Some(_) => {
            return Err(at.error(
                "must be NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert",
            ));
        }
    };
    if !mandatory && !names.is_empty() {
        return Err(at_names.error(
            "needs client_auth_type: RequireAndVerifyClientCert, because a client without a certificate has no name",
        ));
    }
    let missing = "is missing: client certificates are verified against it";
    Ok(Some(ClientAuth {
        authorities: authorities.ok_or_else(|| at_authorities.error(missing))?,
        mandatory,
        names,
    }))
}
