//! The last hour of a statement, minute by minute: calls and p95. The watchdog's thread samples the statement's
//! distribution once a minute, so a query pays nothing for it.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use vitals_registry::HistogramSnapshot;

/// The most minutes that are kept.
pub(super) const MINUTES: usize = 60;

const MINUTE: Duration = Duration::from_secs(60);

/// The number of the minute, since the table was created, that contains this age of the table.
pub(super) fn minute_at(age: Duration) -> u64 {
    age.as_secs() / MINUTE.as_secs()
}

/// What a statement did in one minute.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct StatementMinute {
    /// When the minute began.
    pub start: SystemTime,
    /// The calls that ended in it.
    pub calls: u64,
    /// The 95th percentile of their time, in seconds. `None` without calls.
    pub p95_seconds: Option<f64>,
}

/// The calls of a minute, and their p95 in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    calls: u32,
    p95: f32,
}

impl Slot {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "seven digits are more than the buckets have"
    )]
    fn of(calls: &HistogramSnapshot) -> Self {
        Self {
            calls: u32::try_from(calls.count).unwrap_or(u32::MAX),
            p95: calls.quantile(0.95).unwrap_or_default() as f32,
        }
    }
}

/// The last [`MINUTES`] minutes of a statement.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Consecutive minutes, the oldest first.
    slots: VecDeque<Slot>,
    /// The minute after the last slot.
    next: u64,
    /// The calls that the slots have seen, and those before them.
    seen: HistogramSnapshot,
}

impl History {
    /// Adds the calls since the last sample as those of `minute`, which is over.
    pub(super) fn sample(&mut self, calls: &HistogramSnapshot, minute: u64) {
        if self.slots.is_empty() {
            self.next = minute;
        }
        let Some(missed) = minute.checked_sub(self.next) else {
            return;
        };
        let slot = Slot::of(&calls.delta(&self.seen));
        if missed >= MINUTES as u64 {
            self.slots.clear();
        } else {
            self.slots.extend((0..missed).map(|_| Slot::default()));
        }
        self.slots.push_back(slot);
        self.next = minute + 1;
        let surplus = self.slots.len().saturating_sub(MINUTES);
        self.slots.drain(..surplus);
        self.seen.clone_from(calls);
        self.seen.native.shrink_to_fit();
    }

    /// The minutes, the oldest first. The last one is not over; it is `minute` if there is no other. `start` returns when a
    /// minute began.
    pub(super) fn read(
        &self,
        calls: &HistogramSnapshot,
        minute: u64,
        start: impl Fn(u64) -> SystemTime,
    ) -> Vec<StatementMinute> {
        let last = if self.slots.is_empty() {
            minute
        } else {
            self.next
        };
        let current = Slot::of(&calls.delta(&self.seen));
        let slots = self.slots.iter().copied().chain([current]);
        (last - self.slots.len() as u64..)
            .zip(slots)
            .skip((self.slots.len() + 1).saturating_sub(MINUTES))
            .map(|(minute, slot)| StatementMinute {
                start: start(minute),
                calls: slot.calls.into(),
                p95_seconds: (slot.calls > 0).then_some(slot.p95.into()),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vitals_registry::Distribution;

    fn start(minute: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + MINUTE * u32::try_from(minute).unwrap()
    }

    fn read(history: &History, calls: &Distribution, minute: u64) -> Vec<(u64, u64, f64)> {
        let minutes = history.read(&calls.snapshot(), minute, start);
        let number = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            minute_at(since)
        };
        let rounded = |p95: Option<f64>| p95.map_or(-1.0, |p95| (p95 * 10.0).round() / 10.0);
        (minutes.iter())
            .map(|one| (number(one.start), one.calls, rounded(one.p95_seconds)))
            .collect()
    }

    #[test]
    fn each_minute_has_its_own_calls_and_p95() {
        let (mut history, calls) = (History::default(), Distribution::default());
        assert_eq!(read(&history, &calls, 7), [(7, 0, -1.0)]);
        calls.observe(1.0);
        assert_eq!(read(&history, &calls, 7), [(7, 1, 1.0)]);
        history.sample(&calls.snapshot(), 7);
        for _ in 0..3 {
            calls.observe(8.0);
        }
        assert_eq!(read(&history, &calls, 8), [(7, 1, 1.0), (8, 3, 8.0)]);
        history.sample(&calls.snapshot(), 8);
        calls.observe(2.0);
        // The minute 9 had no sample of its own: its calls are in that of minute 10.
        history.sample(&calls.snapshot(), 10);
        assert_eq!(
            read(&history, &calls, 11),
            [
                (7, 1, 1.0),
                (8, 3, 8.0),
                (9, 0, -1.0),
                (10, 1, 2.0),
                (11, 0, -1.0)
            ]
        );
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let (mut history, calls) = (History::default(), Distribution::default());
        for minute in 0..500 {
            calls.observe(1.0);
            history.sample(&calls.snapshot(), minute);
        }
        let minutes = read(&history, &calls, 500);
        assert_eq!(minutes.len(), MINUTES);
        assert_eq!(
            (minutes[0].0, minutes[58].0, minutes[59].0),
            (441, 499, 500)
        );
        assert!(minutes[..59].iter().all(|&(_, calls, _)| calls == 1));
        assert!(history.slots.capacity() <= 2 * MINUTES);
        // After a pause of hours.
        history.sample(&calls.snapshot(), 900);
        assert_eq!(
            read(&history, &calls, 901),
            [(900, 0, -1.0), (901, 0, -1.0)]
        );
    }
}
