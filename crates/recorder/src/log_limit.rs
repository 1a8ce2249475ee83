//! A limit for log lines that clients can cause: a few at once, then one a second. A line says how many before it were left
//! out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines that may be written at once, and the time after which one more may be.
const BURST: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(1);

/// The limit of one kind of line.
#[derive(Debug)]
pub struct LogLimit(Mutex<Lines>);

#[derive(Debug)]
struct Lines {
    /// Lines that may be written now.
    allowed: u32,
    /// When the last one was allowed again; `None` before the first line.
    since: Option<Instant>,
    left_out: u64,
}

/// A line that may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLine {
    /// Lines of this kind that were left out since the last one, if any were.
    pub left_out: Option<u64>,
}

impl LogLimit {
    /// Returns an unused limit.
    pub const fn new() -> Self {
        Self(Mutex::new(Lines {
            allowed: BURST,
            since: None,
            left_out: 0,
        }))
    }

    /// Asks for a line. `None` counts it as left out.
    pub fn line(&self) -> Option<LogLine> {
        self.line_at(Instant::now())
    }

    fn line_at(&self, now: Instant) -> Option<LogLine> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *lines.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_secs() / INTERVAL.as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        if passed > 0 {
            lines.allowed = lines.allowed.saturating_add(passed).min(BURST);
            lines.since = Some(since + INTERVAL.saturating_mul(passed));
        }
        if lines.allowed == 0 {
            lines.left_out += 1;
            return None;
        }
        lines.allowed -= 1;
        let left_out = std::mem::take(&mut lines.left_out);
        Some(LogLine {
            left_out: (left_out > 0).then_some(left_out),
        })
    }
}

impl Default for LogLimit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_lines_are_written_at_once_then_one_a_second_that_counts_the_others() {
        let limit = LogLimit::new();
        let start = Instant::now();
        // The seconds, the lines that are asked for, those that are written, and what the first of them says.
        for (seconds, asked, written, left_out) in [
            (0.0, 100, 10, None),
            (0.9, 5, 0, None),
            (1.1, 3, 1, Some(95)),
            (1.9, 1, 0, None),
            (2.0, 1, 1, Some(3)),
            (60.5, 100, 10, None),
            (61.0, 1, 1, Some(90)),
        ] {
            let now = start + Duration::from_secs_f64(seconds);
            let lines: Vec<_> = (0..asked).filter_map(|_| limit.line_at(now)).collect();
            assert_eq!(lines.len(), written, "after {seconds} s");
            let said = lines.first().and_then(|line| line.left_out);
            assert_eq!(said, left_out, "after {seconds} s");
        }
    }
}
