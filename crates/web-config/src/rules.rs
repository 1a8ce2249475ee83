//! The rules of a web configuration, ready to be applied to connections and requests.

use std::sync::Arc;

use crate::credentials::{BearerToken, Credentials};
use crate::error::ConfigError;
use crate::rate_limit::RateLimit;
use crate::tls::{ServerConfig, TlsSettings};
use crate::web_config::{ResponseHeader, WebConfig};

/// The rules of a [`WebConfig`], ready to be applied to connections and requests.
///
/// ```
/// use exporter_web_config::{AccessRules, ConfigFiles, WebConfig};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("web.yml");
/// # std::fs::write(&path, "http_server_config:\n  headers:\n    X-Frame-Options: deny\n")?;
///
/// let config = WebConfig::read(&path, &mut ConfigFiles::new())?;
/// let rules = AccessRules::new(config, None, None)?;
/// assert!(rules.tls().is_none());
/// assert_eq!(rules.headers()[0].name(), "x-frame-options");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct AccessRules {
    tls: Option<Arc<ServerConfig>>,
    headers: Vec<ResponseHeader>,
    credentials: Option<Arc<Credentials>>,
    rate_limit: Option<RateLimit>,
    requires_client_certificates: bool,
}

impl AccessRules {
    /// Decodes certificates and keys, and prepares the credentials.
    ///
    /// `token` is accepted beside the users of the file. `previous` are the rules that these replace: passwords that were
    /// verified there do not have to be hashed again.
    pub fn new(
        config: WebConfig,
        token: Option<&BearerToken>,
        previous: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        config.warn();
        let requires_client_certificates = config
            .tls
            .as_ref()
            .is_some_and(TlsSettings::requires_client_certificates);
        let tls = config.tls.map(|tls| tls.to_server_config()).transpose()?;
        let previous = previous.and_then(|previous| previous.credentials.as_deref());
        let credentials = Credentials::new(config.users, token, previous)?;
        Ok(Self {
            tls: tls.map(Arc::new),
            headers: config.headers,
            credentials: credentials.map(Arc::new),
            rate_limit: config.rate_limit,
            requires_client_certificates,
        })
    }

    /// The TLS configuration of the listener; `None` if it does not encrypt.
    pub fn tls(&self) -> Option<&Arc<ServerConfig>> {
        self.tls.as_ref()
    }

    /// The headers of every response.
    pub fn headers(&self) -> &[ResponseHeader] {
        &self.headers
    }

    /// The limit on the rate of requests.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.rate_limit
    }

    /// Whether a request needs a user's password, or the token.
    pub fn requires_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Whether a client without a certificate is rejected.
    pub fn requires_client_certificates(&self) -> bool {
        self.requires_client_certificates
    }

    /// Checks whether these rules may replace the previous ones while the server runs.
    ///
    /// A file that is empty or truncated for a moment must not remove the protection, and the scheme that clients use must
    /// not change.
    ///
    /// # Errors
    ///
    /// What the rules would change, as a sentence that continues after a name for them: `would require no credentials any
    /// more`.
    pub fn check_replaces(&self, previous: &Self) -> Result<(), &'static str> {
        if self.tls.is_some() != previous.tls.is_some() {
            return Err("would turn TLS on or off");
        }
        if previous.requires_credentials() && !self.requires_credentials() {
            return Err("would require no credentials any more");
        }
        if previous.requires_client_certificates && !self.requires_client_certificates {
            return Err("would require no client certificates any more");
        }
        Ok(())
    }

    pub(crate) fn credentials(&self) -> Option<&Arc<Credentials>> {
        self.credentials.as_ref()
    }
}
