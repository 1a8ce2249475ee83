//! Checks the credentials of a request: basic authentication (RFC 7617) and a bearer token (RFC 6750).
//!
//! The time of an answer does not reveal which part of the credentials was right: an unknown user costs one hash, as a
//! known one does, and secrets are compared as keyed digests. `hash_queue` limits and orders the hashing.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::{hmac, rand::SystemRandom};

use crate::error::ConfigError;
use crate::hash_queue::{HashQueue, QueueFull};
use crate::users::{User, is_password};

/// The shortest accepted token. A shorter one could be guessed.
const MIN_TOKEN_BYTES: usize = 16;

/// The credentials that are accepted: at least one user, or a token.
pub(crate) struct Credentials {
    users: Vec<User>,
    token: Option<hmac::Tag>,
    /// The key of all digests. It is random, and rules that replace others keep it.
    key: hmac::Key,
}

/// The credentials that a request presents.
pub(crate) enum PresentedCredentials {
    Password { name: Vec<u8>, password: Vec<u8> },
    Token(String),
}

impl Credentials {
    /// Accepts these users, and the token. Returns `None` without either: then no credentials are required.
    ///
    /// The password of a user of `previous` with the same name and hash does not have to be hashed again.
    pub(crate) fn new(
        mut users: Vec<User>,
        token: Option<&BearerToken>,
        previous: Option<&Self>,
    ) -> Result<Option<Self>, ConfigError> {
        if users.is_empty() && token.is_none() {
            return Ok(None);
        }
        let key = match previous {
            Some(previous) => previous.key.clone(),
            None => hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| {
                ConfigError::new("The system's source of randomness", "does not work")
            })?,
        };
        for user in &mut users {
            user.keep_verified(previous.map_or(&[], |previous| &previous.users));
        }
        Ok(Some(Self {
            users,
            token: token.map(|token| hmac::sign(&key, token.0.as_bytes())),
            key,
        }))
    }

    /// The value of `WWW-Authenticate` (RFC 9110, section 11.6.1). The realm is already quoted.
    pub(crate) fn challenge(&self, realm: &str) -> String {
        let basic = format!("Basic realm={realm}, charset=\"UTF-8\"");
        let bearer = format!("Bearer realm={realm}");
        match (self.users.is_empty(), &self.token) {
            (false, None) => basic,
            (false, Some(_)) => format!("{basic}, {bearer}"),
            (true, _) => bearer,
        }
    }

    /// Whether these credentials are accepted. A password that was right before is not hashed, and does not wait in the
    /// queue.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        presented: Option<PresentedCredentials>,
        client: Option<IpAddr>,
        queue: &HashQueue,
    ) -> Result<bool, QueueFull> {
        match presented {
            None => Ok(false),
            Some(PresentedCredentials::Token(token)) => Ok(self.has_token(&token)),
            Some(PresentedCredentials::Password { name, password }) => {
                self.has_user(name, password, client, queue).await
            }
        }
    }

    fn has_token(&self, token: &str) -> bool {
        self.token
            .as_ref()
            .is_some_and(|known| hmac::verify(&self.key, token.as_bytes(), known.as_ref()).is_ok())
    }

    async fn has_user(
        self: &Arc<Self>,
        name: Vec<u8>,
        password: Vec<u8>,
        client: Option<IpAddr>,
        queue: &HashQueue,
    ) -> Result<bool, QueueFull> {
        if self.users.is_empty() || !is_password(&password) {
            return Ok(false);
        }
        let digest = self.digest(&name, &password);
        if self.is_verified(&digest) {
            return Ok(true);
        }
        let this = Arc::clone(self);
        let verify = move || {
            // While this request waited for its turn, another one may have verified the same password.
            this.is_verified(&digest) || this.verify(&name, &password, digest)
        };
        Ok(queue.run(client, verify).await?.unwrap_or(false))
    }

    /// Hashes the password, and keeps the digest of a correct one.
    ///
    /// For an unknown name it hashes against the hash of some user, always the same one for the same name. So known and
    /// unknown names take the same time, also where the costs of the hashes differ.
    fn verify(&self, name: &[u8], password: &[u8], digest: hmac::Tag) -> bool {
        let known = self
            .users
            .iter()
            .find(|user| user.name().as_bytes() == name);
        let Some(user) = known.or_else(|| self.decoy(name)) else {
            return false;
        };
        let is_right = user.has_password(password) & known.is_some();
        if is_right {
            user.set_verified(digest);
        }
        is_right
    }

    fn decoy(&self, name: &[u8]) -> Option<&User> {
        let digest = hmac::sign(&self.key, name);
        let number = digest.as_ref().iter().fold(0_usize, |number, byte| {
            number.wrapping_mul(31).wrapping_add(usize::from(*byte))
        });
        self.users.get(number.checked_rem(self.users.len())?)
    }

    fn digest(&self, name: &[u8], password: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(name);
        // No name contains a colon.
        context.update(b":");
        context.update(password);
        context.sign()
    }

    fn is_verified(&self, digest: &hmac::Tag) -> bool {
        self.users.iter().any(|user| user.is_verified(digest))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("users", &self.users)
            .field("has_token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}

impl PresentedCredentials {
    /// Parses the values of `Authorization`; `None` if there is not exactly one, or it uses another scheme.
    pub(crate) fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut values = values.into_iter();
        let (value, None) = (values.next()?, values.next()) else {
            return None;
        };
        let (scheme, rest) = str::from_utf8(value).ok()?.split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("Bearer") {
            return Some(Self::Token(rest.to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("Basic") {
            return None;
        }
        let mut name = BASE64_STANDARD.decode(rest).ok()?;
        let colon = name.iter().position(|byte| *byte == b':')?;
        let password = name.split_off(colon + 1);
        name.truncate(colon);
        Some(Self::Password { name, password })
    }
}

/// A token that admits every request that presents it (`Authorization: Bearer …`, RFC 6750).
///
/// The web configuration file has no field for it: a server reads it from elsewhere, and passes it to
/// [`AccessRules::new`](crate::AccessRules::new). `Debug` does not show it.
///
/// ```
/// use exporter_web_config::BearerToken;
///
/// assert!(BearerToken::parse(b"6f1c2a77d0c94c5f\n").is_ok());
/// let reason = BearerToken::parse(b"short").unwrap_err();
/// assert!(reason.starts_with("must contain one token of at least 16 visible ASCII characters"));
/// ```
pub struct BearerToken(String);

impl BearerToken {
    /// Reads a token of at least 16 visible ASCII characters. Whitespace around it is not part of it.
    ///
    /// # Errors
    ///
    /// What is wrong with the contents, as a sentence that continues after the name of the file or setting.
    pub fn parse(contents: &[u8]) -> Result<Self, String> {
        let token = contents.trim_ascii();
        let is_visible = token.iter().all(u8::is_ascii_graphic);
        if token.len() < MIN_TOKEN_BYTES || !is_visible {
            return Err(format!(
                "must contain one token of at least {MIN_TOKEN_BYTES} visible ASCII characters, as `openssl rand -hex 24` makes"
            ));
        }
        Ok(Self(String::from_utf8_lossy(token).into_owned()))
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}
