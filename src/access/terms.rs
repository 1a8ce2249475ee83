//! The access terms of the service: the rules of all access files together.
//!
//! The web configuration file has the rules of the ops endpoints. The token file and the certificate of the public listener
//! are settings of the service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_web::http::header::{HeaderName, HeaderValue};
#[cfg(feature = "tls")]
use exporter_web_config::Pem;
use exporter_web_config::{
    AccessRules, BearerToken, ConfigError, ConfigFiles, ConfigSource, ResponseHeader, ServerConfig,
    TlsSettings, WebConfig,
};

/// The files that the settings name.
#[derive(Debug, Clone)]
pub(super) struct TermFiles {
    /// The web configuration of the ops endpoints.
    pub(super) web_config: Option<PathBuf>,
    /// The token of the ops endpoints.
    pub(super) token_file: Option<PathBuf>,
    /// The certificate of the public listener.
    pub(super) certificate: Option<PathBuf>,
    /// The key of that certificate.
    pub(super) key: Option<PathBuf>,
    /// Whether the ops endpoints have a listener of their own.
    pub(super) has_ops_listener: bool,
}

impl TermFiles {
    /// Whether the settings name any file.
    pub(super) fn exist(&self) -> bool {
        let files = [
            &self.web_config,
            &self.token_file,
            &self.certificate,
            &self.key,
        ];
        files.into_iter().any(Option::is_some)
    }
}

/// The contents of the files. Certificates and keys are not decoded yet.
#[derive(Debug)]
pub(super) struct Draft {
    public_tls: Option<TlsSettings>,
    web: WebConfig,
    token: Option<BearerToken>,
}

/// The terms in use.
#[derive(Debug)]
pub(super) struct Terms {
    /// The TLS configuration of the public listener.
    pub(super) public_tls: Option<Arc<ServerConfig>>,
    /// The rules of the ops endpoints. Their TLS configuration is that of the ops listener.
    pub(super) ops: AccessRules,
    /// The headers of these rules, as Actix sends them.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl ConfigSource for TermFiles {
    type Draft = Draft;
    type Value = Terms;

    fn read(&self, files: &mut ConfigFiles) -> Result<Draft, ConfigError> {
        let token = self.token_file.as_deref();
        let token = token.map(|path| read_token(path, files)).transpose()?;
        let mut public_tls = self.read_public_tls(files)?;
        let path = self.web_config.as_deref();
        let web = path.map(|path| WebConfig::read(path, files)).transpose()?;
        let mut web = web.unwrap_or_default();
        if !self.has_ops_listener
            && let (Some(tls), Some(path)) = (web.take_tls(), path)
        {
            check_shared_listener(&tls, public_tls.is_some(), path)?;
            public_tls = Some(tls);
        }
        Ok(Draft {
            public_tls,
            web,
            token,
        })
    }

    fn build(&self, draft: Draft, previous: Option<&Terms>) -> Result<Terms, ConfigError> {
        let public_tls = draft.public_tls.map(|tls| tls.to_server_config());
        let previous_ops = previous.map(|previous| &previous.ops);
        let ops = AccessRules::new(draft.web, draft.token.as_ref(), previous_ops)?;
        let terms = Terms {
            public_tls: public_tls.transpose()?.map(Arc::new),
            headers: ops.headers().iter().map(header).collect::<Result<_, _>>()?,
            ops,
        };
        if let Some(previous) = previous {
            terms.check_replaces(previous).map_err(|change| {
                let reason = format!("{change}, which needs a restart");
                ConfigError::new("The new version", reason)
            })?;
        }
        Ok(terms)
    }
}

impl TermFiles {
    fn read_public_tls(&self, files: &mut ConfigFiles) -> Result<Option<TlsSettings>, ConfigError> {
        const CERTIFICATE: &str = "--tls-cert (VITALS_TLS_CERT)";
        const KEY: &str = "--tls-key (VITALS_TLS_KEY)";
        let missing = |flag, other| ConfigError::new(flag, format!("is missing: {other} needs it"));
        let (certificate, key) = match (&self.certificate, &self.key) {
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(missing(KEY, "--tls-cert")),
            (None, Some(_)) => return Err(missing(CERTIFICATE, "--tls-key")),
            (Some(certificate), Some(key)) => (certificate, key),
        };
        read_tls((CERTIFICATE, certificate), (KEY, key), files).map(Some)
    }
}

impl Terms {
    /// Checks whether these terms may replace the previous ones while the server runs.
    fn check_replaces(&self, previous: &Self) -> Result<(), &'static str> {
        if self.public_tls.is_some() != previous.public_tls.is_some() {
            return Err("would turn TLS of the public listener on or off");
        }
        self.ops.check_replaces(&previous.ops)
    }
}

/// Reads a certificate and its key from the files that these flags name.
#[cfg(feature = "tls")]
fn read_tls(
    certificate: (&str, &Path),
    key: (&str, &Path),
    files: &mut ConfigFiles,
) -> Result<TlsSettings, ConfigError> {
    let mut read = |(flag, path)| Pem::read(flag, path, files);
    Ok(TlsSettings::new(read(certificate)?, read(key)?))
}

#[cfg(not(feature = "tls"))]
fn read_tls(
    (flag, _): (&str, &Path),
    _: (&str, &Path),
    _: &mut ConfigFiles,
) -> Result<TlsSettings, ConfigError> {
    let reason = "needs TLS, and this program is built without it (feature `tls`)";
    Err(ConfigError::new(flag, reason))
}

fn read_token(path: &Path, files: &mut ConfigFiles) -> Result<BearerToken, ConfigError> {
    const FLAG: &str = "--ops-token-file (VITALS_OPS_TOKEN_FILE)";
    let error = |reason: String| {
        let path = path.display();
        ConfigError::new(FLAG, format!("names {path}, which {reason}"))
    };
    let contents = files
        .read(path)
        .map_err(|cause| error(format!("cannot be read: {cause}")))?;
    BearerToken::parse(&contents).map_err(error)
}

/// Rejects TLS settings that need a separate ops listener.
fn check_shared_listener(
    tls: &TlsSettings,
    has_public_tls: bool,
    web_config: &Path,
) -> Result<(), ConfigError> {
    let error = |field, reason| ConfigError::of_field(web_config, field, reason);
    if has_public_tls {
        return Err(error(
            "tls_server_config",
            "must not be set together with --tls-cert for the same listener: remove one of them, or add --ops-listen",
        ));
    }
    if tls.requests_client_certificates() {
        return Err(error(
            "tls_server_config.client_auth_type",
            "needs --ops-listen: without it, every client of the API would be asked for a certificate",
        ));
    }
    Ok(())
}

fn header(header: &ResponseHeader) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let value = HeaderValue::from_bytes(header.value().as_bytes())
        .map_err(|_| ConfigError::new(header.name(), "must be a value that HTTP can send"))?;
    Ok((HeaderName::from_static(header.name()), value))
}
