//! Checks requests against the access rules.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::credentials::PresentedCredentials;
use crate::hash_queue::{HashQueue, QueueFull};
use crate::rate_limit::TokenBucket;
use crate::rules::AccessRules;

/// When a login that found the queue full may be tried again, in seconds.
const LOGIN_RETRY_AFTER: u32 = 1;

/// Checks each request against the [`AccessRules`]: the rate limit, then the credentials.
///
/// It keeps what outlives the rules: the tokens of the rate limit, and the queue of passwords that are hashed. A server has
/// one gate; a clone is the same gate.
///
/// ```
/// use exporter_web_config::{Denial, Reloading, RequestGate, WebConfigFile};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("web.yml");
/// # std::fs::write(&path, "basic_auth_users:\n  alice: $2b$04$aaaaaaaaaaaaaaaaaaaaaOGY9KrC7e/pHj3EXQPxs8hKEBbvQhsvG\n")?;
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
///
/// let rules = Reloading::open(WebConfigFile::new(&path))?.current();
/// let gate = RequestGate::new("metrics");
///
/// // The values of `Authorization` of a request, and the address of its client.
/// let alice = [&b"Basic YWxpY2U6c2VjcmV0"[..]];
/// gate.check(&rules, alice, Some([192, 0, 2, 1].into())).await?;
///
/// let denial = gate.check(&rules, [], None).await.unwrap_err();
/// assert_eq!(denial.status(), 401);
/// assert_eq!(denial.header(), ("www-authenticate", r#"Basic realm="metrics", charset="UTF-8""#.to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct RequestGate {
    hash_queue: HashQueue,
    bucket: Arc<TokenBucket>,
    /// As a quoted string (RFC 9110, section 5.6.4).
    realm: Arc<str>,
}

/// Why a request is not admitted, and how to answer it. [`RequestGate`] has an example.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The request has no credentials, or wrong ones. Status 401.
    #[error("the credentials are missing or wrong")]
    Unauthorized {
        /// The value of `WWW-Authenticate`.
        challenge: String,
    },
    /// The rate limit has no token left. Status 429.
    #[error("requests arrive too often")]
    TooManyRequests {
        /// The value of `Retry-After`, in seconds.
        retry_after: u32,
    },
    /// Too many passwords wait to be hashed. Status 503.
    #[error("too many logins wait to be checked")]
    TooManyLogins {
        /// The value of `Retry-After`, in seconds.
        retry_after: u32,
    },
}

impl RequestGate {
    /// A gate with a full rate limit and an empty queue. Clients see the realm in the challenge.
    ///
    /// In the realm, characters other than visible ASCII and spaces are replaced by `?`.
    pub fn new(realm: &str) -> Self {
        Self {
            hash_queue: HashQueue::new(),
            bucket: Arc::default(),
            realm: quoted(realm).into(),
        }
    }

    /// Checks the rate limit, then the credentials. See [`check_rate`](Self::check_rate) and
    /// [`check_credentials`](Self::check_credentials).
    pub async fn check<'a>(
        &self,
        rules: &AccessRules,
        authorization: impl IntoIterator<Item = &'a [u8]>,
        client: Option<IpAddr>,
    ) -> Result<(), Denial> {
        self.check_rate(rules)?;
        self.check_credentials(rules, authorization, client).await
    }

    /// Takes a token of the rate limit. Call this first: it costs least.
    pub fn check_rate(&self, rules: &AccessRules) -> Result<(), Denial> {
        match rules.rate_limit() {
            Some(limit) if !self.bucket.admits(limit, Instant::now()) => {
                Err(Denial::TooManyRequests {
                    retry_after: limit.retry_after(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Checks the values of `Authorization`. More than one value is rejected.
    ///
    /// The first correct password of a user is hashed, which takes milliseconds to seconds on a blocking thread; its later
    /// uses are not. At most half of the cores hash, clients take turns by address, and an address has at most 32 waiting
    /// logins. Dropping the future gives up the position in the queue.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime, if a password must be hashed.
    pub async fn check_credentials<'a>(
        &self,
        rules: &AccessRules,
        authorization: impl IntoIterator<Item = &'a [u8]>,
        client: Option<IpAddr>,
    ) -> Result<(), Denial> {
        let Some(credentials) = rules.credentials() else {
            return Ok(());
        };
        let presented = PresentedCredentials::parse(authorization);
        match credentials
            .accept(presented, client, &self.hash_queue)
            .await
        {
            Ok(true) => Ok(()),
            Ok(false) => Err(Denial::Unauthorized {
                challenge: credentials.challenge(&self.realm),
            }),
            Err(QueueFull) => Err(Denial::TooManyLogins {
                retry_after: LOGIN_RETRY_AFTER,
            }),
        }
    }
}

impl Denial {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unauthorized { .. } => 401,
            Self::TooManyRequests { .. } => 429,
            Self::TooManyLogins { .. } => 503,
        }
    }

    /// The header of the answer, with its name in lower case: `www-authenticate` or `retry-after`.
    pub fn header(&self) -> (&'static str, String) {
        match self {
            Self::Unauthorized { challenge } => ("www-authenticate", challenge.clone()),
            Self::TooManyRequests { retry_after } | Self::TooManyLogins { retry_after } => {
                ("retry-after", retry_after.to_string())
            }
        }
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_is_a_quoted_string_of_one_line() {
        for (realm, expected) in [
            ("metrics", r#""metrics""#),
            (r#"a "b" \c"#, r#""a \"b\" \\c""#),
            ("é\r\nSet-Cookie: a", r#""???Set-Cookie: a""#),
            ("", r#""""#),
        ] {
            assert_eq!(quoted(realm), expected, "{realm}");
        }
    }
}
