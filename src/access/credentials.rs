//! Who may enter: users with a password (RFC 7617), and whoever has the token (RFC 6750).
//!
//! No answer reveals by its time what is right about a wrong credential: an unknown user costs a hash as a known one
//! does, and secrets are compared as keyed digests. `hash_queue` has the order in which passwords are hashed.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::{hmac, rand::SystemRandom};

use super::hash_queue::{HashQueue, QueueFull};
use super::refusal::Refusal;
use super::users::{User, is_password};

/// Shortest token that is taken: a shorter one could be guessed.
const SHORTEST_TOKEN: usize = 16;

/// What lets a request in. There is at least one user, or a token.
pub(super) struct Credentials {
    users: Vec<User>,
    token: Option<hmac::Tag>,
    /// Makes the digests. It is random, and stays the same for the life of the process.
    key: hmac::Key,
}

/// What a request claims.
enum Claim {
    Password { name: Vec<u8>, password: Vec<u8> },
    Token(String),
}

impl Credentials {
    /// Admits these users, and clients with the token; `None` if there are neither, and no client is asked.
    ///
    /// A user of `old` with the same name and the same hash has no need to be verified again.
    pub(super) fn new(
        mut users: Vec<User>,
        token: Option<&Token>,
        old: Option<&Self>,
    ) -> Result<Option<Self>, Refusal> {
        if users.is_empty() && token.is_none() {
            return Ok(None);
        }
        let key = match old {
            Some(old) => old.key.clone(),
            None => hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
                .map_err(|_| Refusal::new("The system's source of randomness", "does not work"))?,
        };
        for user in &mut users {
            user.keep_verified(old.map_or(&[], |old| &old.users));
        }
        Ok(Some(Self {
            users,
            token: token.map(|token| hmac::sign(&key, token.0.as_bytes())),
            key,
        }))
    }

    /// What a client is asked for (`WWW-Authenticate`, RFC 9110, section 11.6.1).
    pub(super) fn challenge(&self) -> &'static str {
        const BASIC: &str = r#"Basic realm="operators", charset="UTF-8""#;
        const BEARER: &str = r#"Bearer realm="operators""#;
        const EITHER: &str =
            r#"Basic realm="operators", charset="UTF-8", Bearer realm="operators""#;
        match (self.users.is_empty(), &self.token) {
            (false, None) => BASIC,
            (false, Some(_)) => EITHER,
            (true, _) => BEARER,
        }
    }

    /// Whether a request with these headers may enter. A password that was right before is not hashed again, and does not
    /// wait in the queue.
    pub(super) async fn admit(
        self: &Arc<Self>,
        headers: &HeaderMap,
        client: Option<IpAddr>,
        queue: &HashQueue,
    ) -> Result<bool, QueueFull> {
        match Claim::of(headers) {
            None => Ok(false),
            Some(Claim::Token(token)) => Ok(self.has_token(&token)),
            Some(Claim::Password { name, password }) => {
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
            // Another request with the same password may have been verified while this one waited for its turn.
            this.is_verified(&digest) || this.verify(&name, &password, digest)
        };
        Ok(queue.run(client, verify).await?.unwrap_or(false))
    }

    /// Hashes the password: against the user's hash, or in vain against the hash of a user that the unknown name always
    /// leads to. So unknown names take as long as known ones. Remembers the digest of a password that is right.
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
        // No name has one.
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

impl Claim {
    /// What the one header `Authorization` says; `None` where there is none, or several, or none of ours.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(AUTHORIZATION);
        let (value, None) = (values.next()?, values.next()) else {
            return None;
        };
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
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

/// A secret that whoever shows may enter.
pub(super) struct Token(String);

impl Token {
    /// Reads the contents of a token's file; or tells what is wrong with them.
    pub(super) fn parse(contents: &[u8]) -> Result<Self, String> {
        let token = contents.trim_ascii();
        let is_sendable = token.iter().all(u8::is_ascii_graphic);
        if token.len() < SHORTEST_TOKEN || !is_sendable {
            return Err(format!(
                "must hold one token of at least {SHORTEST_TOKEN} visible ASCII characters, such as `openssl rand -hex 24` makes"
            ));
        }
        Ok(Self(String::from_utf8_lossy(token).into_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}
