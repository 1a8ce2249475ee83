//! When a request is sent again, by the rules of the specification.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#failures-1>

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

use ureq::http::StatusCode;

/// The longest wait between two attempts that no receiver has asked for.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The longest wait that a receiver may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Whether the receiver may take the request later. The specification names these statuses, and no others.
pub(crate) fn is_retryable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// The wait that a `Retry-After` header asks for: seconds, or the date at which it ends.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if let Ok(seconds) = value.parse() {
        Duration::from_secs(seconds)
    } else {
        let end = httpdate::parse_http_date(value).ok()?;
        end.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// The waits between attempts: each about twice the one before. A random part keeps many services from trying at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration) -> Self {
        Self { next: first }
    }

    /// The next wait: half of it is certain, the rest random.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST_BACKOFF);
        // Each `RandomState` has keys of its own.
        let random = RandomState::new().hash_one(0_u8);
        let share = random as f64 / u64::MAX as f64;
        whole.mul_f64(0.5 + share.min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_statuses_of_the_specification_are_retried() {
        for status in 300..600 {
            let code = StatusCode::from_u16(status).expect("a status");
            assert_eq!(
                is_retryable(code),
                [429, 502, 503, 504].contains(&status),
                "{status}"
            );
        }
    }

    #[test]
    fn a_wait_is_read_as_seconds_or_as_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        for (value, seconds, why) in [
            ("0", Some(0), "at once"),
            (" 120 ", Some(120), "seconds"),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30), "a date to come"),
            (
                "Sun, 06 Nov 1994 08:40:00 GMT",
                Some(0),
                "a date that is over",
            ),
            ("99999999", Some(600), "nobody waits for a year"),
            ("-1", None, "negative"),
            ("1.5", None, "a fraction"),
            ("soon", None, "no wait at all"),
        ] {
            let wait = retry_after(value, now).map(|wait| wait.as_secs());
            assert_eq!(wait, seconds, "{why}");
        }
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        for whole in [1, 2, 4, 8, 16, 30, 30] {
            let wait = backoff.next().as_secs_f64() / f64::from(whole);
            assert!((0.5..=1.5).contains(&wait), "{whole}: {wait}");
        }
        let mut others = (0..10).map(|_| Backoff::new(LONGEST_BACKOFF).next());
        let first = others.next();
        assert!(others.any(|other| Some(other) != first), "waits are random");
    }
}
