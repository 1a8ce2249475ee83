//! A limit for log lines about a lasting condition: one an hour.

use std::time::{Duration, Instant};

/// The least time between two lines.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Lets one line an hour pass.
#[derive(Debug, Default)]
pub(super) struct Hourly {
    last: Option<Instant>,
}

impl Hourly {
    /// Whether a line may be written now.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let may = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL);
        if may {
            self.last = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_an_hour_passes() {
        let mut hourly = Hourly::default();
        let start = Instant::now();
        for (seconds, expected) in [
            (0, true),
            (1, false),
            (3599, false),
            (3600, true),
            (3601, false),
            (7200, true),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(hourly.allows(now), expected, "after {seconds} s");
        }
    }
}
