//! The rate limit, as the exporters have it: one token bucket for all clients together.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A limit on the rate of requests: one each interval, and a burst of several at once.
///
/// ```
/// use std::time::Duration;
/// use exporter_web_config::RateLimit;
///
/// let limit = RateLimit::new(Duration::from_millis(1500), 20).unwrap();
/// assert_eq!(limit.retry_after(), 2);
/// assert_eq!(RateLimit::new(Duration::ZERO, 20), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    interval: Duration,
    burst: u64,
}

impl RateLimit {
    /// A limit. An interval of zero turns the limit off, and returns `None`. A burst of 0 admits no request.
    pub fn new(interval: Duration, burst: u64) -> Option<Self> {
        (!interval.is_zero()).then_some(Self { interval, burst })
    }

    /// The time between two requests.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The number of requests that may arrive at once.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// The seconds until the next request may be sent, rounded up, as the header `Retry-After` has them.
    pub fn retry_after(&self) -> u32 {
        let seconds = self.interval.as_secs() + u64::from(self.interval.subsec_nanos() > 0);
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }
}

/// The tokens that are left. A new bucket is full.
#[derive(Debug, Default)]
pub(crate) struct TokenBucket(Mutex<Option<TokenLevel>>);

#[derive(Debug, Clone, Copy)]
struct TokenLevel {
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// Takes a token for a request, if there is one. A changed limit applies from this call on.
    pub(crate) fn admits(&self, limit: RateLimit, now: Instant) -> bool {
        let burst = limit.burst as f64;
        let mut level = self.0.lock();
        let tokens = level.map_or(burst, |level| {
            let passed = now.saturating_duration_since(level.at);
            let gained = passed.as_secs_f64() / limit.interval.as_secs_f64();
            (level.tokens + gained).min(burst)
        });
        let is_admitted = tokens >= 1.0;
        let tokens = if is_admitted { tokens - 1.0 } else { tokens };
        *level = Some(TokenLevel { tokens, at: now });
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_admits_a_burst_and_then_one_request_an_interval() {
        let limit = RateLimit::new(Duration::from_secs(2), 3).unwrap();
        let bucket = TokenBucket::default();
        let start = Instant::now();
        let admitted = |seconds: f64, requests: usize| {
            let now = start + Duration::from_secs_f64(seconds);
            let all = (0..requests).filter(|_| bucket.admits(limit, now));
            all.count()
        };
        assert_eq!(admitted(0.0, 10), 3, "the burst");
        assert_eq!(admitted(1.0, 10), 0, "half an interval");
        assert_eq!(admitted(2.0, 10), 1, "an interval");
        assert_eq!(admitted(6.0, 10), 2, "two intervals");
        assert_eq!(admitted(1000.0, 10), 3, "no more than the burst");
    }

    #[test]
    fn no_interval_is_no_limit_and_no_burst_admits_no_request() {
        assert_eq!(RateLimit::new(Duration::ZERO, 5), None);
        let limit = RateLimit::new(Duration::from_secs(1), 0).unwrap();
        let bucket = TokenBucket::default();
        let start = Instant::now();
        assert!(!bucket.admits(limit, start));
        assert!(!bucket.admits(limit, start + Duration::from_secs(60)));
    }

    #[test]
    fn a_changed_limit_applies_to_the_same_bucket() {
        let [strict, lax] = [1, 5].map(|burst| RateLimit::new(Duration::from_secs(1), burst));
        let (strict, lax) = (strict.unwrap(), lax.unwrap());
        let bucket = TokenBucket::default();
        let start = Instant::now();
        assert!(bucket.admits(lax, start) && bucket.admits(strict, start));
        assert!(!bucket.admits(strict, start), "four tokens were cut to one");
        let later = start + Duration::from_secs(3);
        let admitted = (0..9).filter(|_| bucket.admits(lax, later)).count();
        assert_eq!(admitted, 3, "an interval adds one token");
    }

    #[test]
    fn retry_after_is_in_whole_seconds() {
        for (interval, seconds) in [(1, 1), (1000, 1), (1001, 2), (90_000, 90)] {
            let limit = RateLimit::new(Duration::from_millis(interval), 1).unwrap();
            assert_eq!(limit.retry_after(), seconds, "{interval} ms");
        }
    }
}
