//! Who may enter: users with a password (RFC 7617), and whoever has the token (RFC 6750).
//!
//! Nothing here tells by its time what is right about a wrong credential: an unknown user costs a hash as a known one
//! does, and what is compared is compared as keyed digests. Hashing is kept off the event loop, and few hash at a time.

use std::fmt;
use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::web;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use ring::{hmac, rand::SystemRandom};
use tokio::sync::Semaphore;

use super::refusal::Refusal;
use super::users::{User, is_password};

/// Shortest token that is taken: a shorter one could be guessed.
const SHORTEST_TOKEN: usize = 16;

/// What lets a request in. There is at least one user, or a token.
pub(super) struct Credentials {
    users: Vec<User>,
    token: Option<hmac::Tag>,
    /// Makes the digests; nobody else has it, and it lives as long as they do.
    key: hmac::Key,
    /// The digests of name and password that were right, one for each user at most. Those that were wrong are not
    /// kept: a client could fill any room for them.
    right: Mutex<Vec<hmac::Tag>>,
}

/// Lets few hash at a time, each on a blocking thread.
#[derive(Debug, Clone)]
pub(super) struct Hashers(Arc<Semaphore>);

/// What a request claims.
enum Claim {
    Password { name: Vec<u8>, password: Vec<u8> },
    Token(String),
}

impl Credentials {
    /// Lets these users in, and those with the token; `None` where that is nobody, and so everybody.
    pub(super) fn new(users: Vec<User>, token: Option<&Token>) -> Result<Option<Self>, Refusal> {
        if users.is_empty() && token.is_none() {
            return Ok(None);
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| Refusal::new("The system's source of randomness", "does not work"))?;
        Ok(Some(Self {
            users,
            token: token.map(|token| hmac::sign(&key, token.0.as_bytes())),
            key,
            right: Mutex::default(),
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

    /// Whether a request with these headers may enter.
    pub(super) async fn admit(self: &Arc<Self>, headers: &HeaderMap, hashers: &Hashers) -> bool {
        match Claim::of(headers) {
            None => false,
            Some(Claim::Token(token)) => self.has_token(&token),
            Some(Claim::Password { name, password }) => {
                self.has_user(name, password, hashers).await
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
        hashers: &Hashers,
    ) -> bool {
        if self.users.is_empty() || !is_password(&password) {
            return false;
        }
        let digest = self.digest(&name, &password);
        if self.is_right(&digest) {
            return true;
        }
        let this = Arc::clone(self);
        let verify = move || {
            // Another request may have come with the same while this one waited for its turn.
            let right = this.is_right(&digest) || this.verify(&name, &password);
            if right {
                this.remember(digest);
            }
            right
        };
        hashers.run(verify).await.unwrap_or(false)
    }

    /// Hashes the password: against the user's hash, or in vain against the one of a user whom the unknown name leads to,
    /// always the same, so that unknown names take the times that known ones take.
    fn verify(&self, name: &[u8], password: &[u8]) -> bool {
        let known = self
            .users
            .iter()
            .find(|user| user.name().as_bytes() == name);
        let Some(user) = known.or_else(|| self.decoy(name)) else {
            return false;
        };
        user.has_password(password) & known.is_some()
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

    fn is_right(&self, digest: &hmac::Tag) -> bool {
        let right = self.right.lock();
        right.iter().any(|known| known.as_ref() == digest.as_ref())
    }

    fn remember(&self, digest: hmac::Tag) {
        if self.is_right(&digest) {
            return;
        }
        let mut right = self.right.lock();
        if right.len() < self.users.len() {
            right.push(digest);
        }
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

impl Hashers {
    /// As many as half of the cores, so that the other half serves on.
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new((cores / 2).clamp(1, 4))))
    }

    /// Waits for a turn, and works off the event loop. `None` where the work came to no end.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let turn = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let work = move || {
            let result = work();
            drop(turn);
            result
        };
        web::block(work).await.ok()
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
