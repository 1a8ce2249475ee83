//! The terms on which clients may connect and enter, as they are in force: read from all the files that say something
//! about them, and replaced as a whole when those change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_web::http::header::{HeaderName, HeaderValue};
use parking_lot::RwLock;
use rustls::ServerConfig;

use super::credentials::{Credentials, Token};
use super::files::Files;
use super::rate_limit::RateLimit;
use super::refusal::{Field, Refusal};
use super::tls::{Pem, TlsTerms};
use super::users::User;
use super::web_config::WebConfig;

/// Where the terms are told.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// The web configuration of the operators' endpoints.
    pub(super) web_config: Option<PathBuf>,
    /// The file of the operators' token.
    pub(super) token_file: Option<PathBuf>,
    /// The certificate of the public listener.
    pub(super) certificate: Option<PathBuf>,
    /// The key of that certificate.
    pub(super) key: Option<PathBuf>,
    /// Whether the operators' endpoints have a listener of their own.
    pub(super) is_ops_apart: bool,
}

/// What the sources say, before it is known to be of use.
#[derive(Debug)]
pub(super) struct Draft {
    public_tls: Option<TlsTerms>,
    ops_tls: Option<TlsTerms>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Vec<User>,
    rate_limit: Option<RateLimit>,
    token: Option<Token>,
}

/// The terms in force.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// How the public listener encrypts.
    pub(super) public_tls: Option<Arc<ServerConfig>>,
    /// How the operators' own listener encrypts.
    pub(super) ops_tls: Option<Arc<ServerConfig>>,
    /// Headers for each answer of the operators' endpoints.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Who may use the operators' endpoints; everybody where there are none.
    pub(super) credentials: Option<Arc<Credentials>>,
    /// How often requests to the ops endpoints may come.
    pub(super) rate_limit: Option<RateLimit>,
    /// Whether the operators' listener admits only clients with a certificate.
    pub(super) demands_certificates: bool,
}

impl Sources {
    /// Reads all that they say.
    pub(super) fn read(&self, files: &mut Files) -> Result<Draft, Refusal> {
        let token = self.token_file.as_deref();
        let token = token.map(|path| read_token(path, files)).transpose()?;
        let public_tls = self.read_public_tls(files)?;
        let path = self.web_config.as_deref();
        let web = path.map(|path| WebConfig::read(path, files)).transpose()?;
        let web = web.unwrap_or_default();
        let mut draft = Draft {
            public_tls,
            ops_tls: None,
            headers: web.headers,
            users: web.users,
            rate_limit: web.rate_limit,
            token,
        };
        if self.is_ops_apart {
            draft.ops_tls = web.tls;
        } else if let (Some(tls), Some(path)) = (web.tls, path) {
            refuse_on_shared_listener(&tls, draft.public_tls.is_some(), path)?;
            draft.public_tls = Some(tls);
        }
        Ok(draft)
    }

    fn read_public_tls(&self, files: &mut Files) -> Result<Option<TlsTerms>, Refusal> {
        const CERTIFICATE: &str = "--tls-cert (VITALS_TLS_CERT)";
        const KEY: &str = "--tls-key (VITALS_TLS_KEY)";
        let missing = |flag, other| Refusal::new(flag, format!("is missing: {other} needs it"));
        let (certificate, key) = match (&self.certificate, &self.key) {
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(missing(KEY, "--tls-cert")),
            (None, Some(_)) => return Err(missing(CERTIFICATE, "--tls-key")),
            (Some(certificate), Some(key)) => (certificate, key),
        };
        let certificate = Pem::read(CERTIFICATE, certificate, files)?;
        let key = Pem::read(KEY, key, files)?;
        Ok(Some(TlsTerms::new(certificate, key)))
    }
}

fn read_token(path: &Path, files: &mut Files) -> Result<Token, Refusal> {
    const FLAG: &str = "--ops-token-file (VITALS_OPS_TOKEN_FILE)";
    let refuse = |reason: String| {
        let path = path.display();
        Refusal::new(FLAG, format!("names {path}, which {reason}"))
    };
    let contents = files
        .read(path)
        .map_err(|error| refuse(format!("cannot be read: {error}")))?;
    Token::parse(&contents).map_err(refuse)
}

/// What cannot be meant where operators and the public share one listener.
fn refuse_on_shared_listener(
    tls: &TlsTerms,
    is_encrypted: bool,
    web_config: &Path,
) -> Result<(), Refusal> {
    let at = Field::root(web_config).child("tls_server_config");
    if is_encrypted {
        return Err(at.refuse(
            "is given beside --tls-cert, for one listener: one of them must go, or --ops-listen come",
        ));
    }
    if tls.client_auth.is_some() {
        return Err(at
            .child("client_auth_type")
            .refuse("would ask every client of the API for a certificate: it needs --ops-listen"));
    }
    Ok(())
}

impl Draft {
    /// The terms, if they can be put into force. They keep the users of `old` that are verified.
    pub(super) fn into_terms(self, old: Option<&Terms>) -> Result<Terms, Refusal> {
        let config = |tls: &TlsTerms| tls.to_server_config().map(Arc::new);
        let old = old.and_then(|old| old.credentials.as_deref());
        let credentials = Credentials::new(self.users, self.token.as_ref(), old)?;
        Ok(Terms {
            public_tls: self.public_tls.as_ref().map(config).transpose()?,
            ops_tls: self.ops_tls.as_ref().map(config).transpose()?,
            headers: self.headers,
            credentials: credentials.map(Arc::new),
            rate_limit: self.rate_limit,
            demands_certificates: self.ops_tls.is_some_and(|tls| tls.demands_certificates()),
        })
    }
}

impl Terms {
    /// Whether these may replace others while the server runs. A file that is cut short or empty for a moment must not
    /// open the door; and what has been announced as `https` stays that.
    pub(super) fn may_replace(&self, old: &Self) -> Result<(), &'static str> {
        let switches =
            |old: &Option<_>, new: &Option<_>| Option::is_some(old) != Option::is_some(new);
        if switches(&old.public_tls, &self.public_tls) || switches(&old.ops_tls, &self.ops_tls) {
            return Err("would switch TLS on or off");
        }
        if old.credentials.is_some() && self.credentials.is_none() {
            return Err("would ask nobody for credentials any more");
        }
        if old.demands_certificates && !self.demands_certificates {
            return Err("would ask nobody for certificates any more");
        }
        Ok(())
    }
}

/// The place of the terms in force.
#[derive(Debug)]
pub(super) struct InForce(RwLock<Arc<Terms>>);

impl InForce {
    pub(super) fn new(terms: Terms) -> Self {
        Self(RwLock::new(Arc::new(terms)))
    }

    /// The terms as they are now.
    pub(super) fn get(&self) -> Arc<Terms> {
        Arc::clone(&self.0.read())
    }

    /// Puts others into force, for connections and requests from now on.
    pub(super) fn replace(&self, terms: Terms) {
        *self.0.write() = Arc::new(terms);
    }
}
