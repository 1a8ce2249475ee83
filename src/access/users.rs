//! Users who enter by basic authentication: their names, and the hashes of their passwords.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;
use ring::hmac::Tag;

/// Costs of a hash that are taken: the dearest takes seconds, and one more would take as long again.
const COSTS: RangeInclusive<u32> = 4..=16;

/// Longest password that a hash can tell from others: bcrypt does not look at what follows.
const LONGEST_PASSWORD: usize = 72;

/// A user's name, and the bcrypt hash of the password.
pub(super) struct User {
    name: String,
    hash: String,
    /// The digest of name and password, once it was right. Wrong ones are not kept: a client could send any number.
    verified: Arc<Mutex<Option<Tag>>>,
}

impl User {
    /// A user; or what is wrong with the hash, to be read after the user's name.
    pub(super) fn new(name: String, hash: String) -> Result<Self, String> {
        let parts: bcrypt::HashParts = hash
            .parse()
            .map_err(|_| "must be a bcrypt hash, such as `htpasswd -nBC 10` makes".to_owned())?;
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

    /// Shares what is verified with the user among `old` that has the same name and hash, if there is one. A password
    /// that is still being hashed for the old user then counts for both.
    pub(super) fn keep_verified(&mut self, old: &[Self]) {
        let same = old
            .iter()
            .find(|old| old.name == self.name && old.hash == self.hash);
        if let Some(same) = same {
            self.verified = Arc::clone(&same.verified);
        }
    }

    /// Whether this is the digest of a password that was right.
    pub(super) fn is_verified(&self, digest: &Tag) -> bool {
        let verified = self.verified.lock();
        verified
            .as_ref()
            .is_some_and(|known| known.as_ref() == digest.as_ref())
    }

    /// Remembers the digest of a password that was right.
    pub(super) fn set_verified(&self, digest: Tag) {
        *self.verified.lock() = Some(digest);
    }

    /// The name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is the password; takes as long for one as for another. Works for milliseconds to seconds.
    pub(super) fn has_password(&self, password: &[u8]) -> bool {
        bcrypt::verify(password, &self.hash).unwrap_or(false)
    }
}

/// Whether a password is one that can be told from all others: not too long, and without control characters.
pub(super) fn is_password(password: &[u8]) -> bool {
    password.len() <= LONGEST_PASSWORD && !password.iter().any(u8::is_ascii_control)
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("User").field(&self.name).finish()
    }
}
