//! The users of basic authentication: their names, and the bcrypt hashes of their passwords.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;
use ring::hmac::Tag;

/// Accepted costs of a hash. Each step doubles the time: 16 takes seconds, and a client could ask for it repeatedly.
const COSTS: RangeInclusive<u32> = 4..=16;

/// bcrypt ignores all bytes after this one.
const MAX_PASSWORD_BYTES: usize = 72;

/// A user's name, and the bcrypt hash of the password.
pub(crate) struct User {
    name: String,
    hash: String,
    /// The digest of name and password, after they were found correct. Wrong ones are not kept: a client could send any
    /// number.
    verified: Arc<Mutex<Option<Tag>>>,
}

impl User {
    /// A user; or what is wrong with the hash, as a sentence that continues after the user's name.
    pub(crate) fn new(name: String, hash: String) -> Result<Self, String> {
        let parts: bcrypt::HashParts = hash
            .parse()
            .map_err(|_| "must be a bcrypt hash, as `htpasswd -nBC 10` makes".to_owned())?;
        if !COSTS.contains(&parts.get_cost()) {
            let (least, most) = (COSTS.start(), COSTS.end());
            return Err(format!("must have a cost from {least} to {most}"));
        }
        Ok(Self {
            name,
            hash,
            verified: Arc::default(),
        })
    }

    /// Shares the verified digest with the previous user of the same name and hash, if there is one.
    ///
    /// A password that is still being hashed for the previous user then counts for both.
    pub(crate) fn keep_verified(&mut self, previous: &[Self]) {
        let same = previous
            .iter()
            .find(|previous| previous.name == self.name && previous.hash == self.hash);
        if let Some(same) = same {
            self.verified = Arc::clone(&same.verified);
        }
    }

    /// Whether this is the digest of the correct password.
    pub(crate) fn is_verified(&self, digest: &Tag) -> bool {
        let verified = self.verified.lock();
        verified
            .as_ref()
            .is_some_and(|known| known.as_ref() == digest.as_ref())
    }

    /// Keeps the digest of the correct password.
    pub(crate) fn set_verified(&self, digest: Tag) {
        *self.verified.lock() = Some(digest);
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Hashes the password and compares. Takes milliseconds to seconds, the same for right and wrong passwords.
    pub(crate) fn has_password(&self, password: &[u8]) -> bool {
        bcrypt::verify(password, &self.hash).unwrap_or(false)
    }
}

/// Whether bcrypt distinguishes a password from all others: it is not too long, and has no control characters.
pub(crate) fn is_password(password: &[u8]) -> bool {
    password.len() <= MAX_PASSWORD_BYTES && !password.iter().any(u8::is_ascii_control)
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("User").field(&self.name).finish()
    }
}
