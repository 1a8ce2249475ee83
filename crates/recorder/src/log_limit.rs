//! A limit for log lines that clients can cause: ten at once, then one a second. Each line contains the number of lines
//! that were left out before it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The number of lines that may be written at once.
const BURST: u32 = 10;
/// The time after which one more line may be written.
const INTERVAL: Duration = Duration::from_secs(1);

/// The limit of one kind of line.
#[derive(Debug)]
pub struct LogLimit(Mutex<Lines>);

#[derive(Debug)]
struct Lines {
    /// Lines that may be written now.
    allowed: u32,
    /// When `allowed` was last increased; `None` before the first line.
    since: Option<Instant>,
    left_out: u64,
}

/// A line that may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLine {
    /// The number of lines of this kind that were left out since the last one, if any.
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

    /// Requests a line. `None` means that the line must be left out, and counts it as such.
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
    fn ten_lines_are_written_at_once_then_one_a_second_with_the_number_left_out() {
        let limit = LogLimit::new();
        let start = Instant::now();
        // Seconds, requested lines, written lines, and the number in the first of them.
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
            let first = lines.first().and_then(|line| line.left_out);
            assert_eq!(first, left_out, "after {seconds} s");
        }
    }
}
