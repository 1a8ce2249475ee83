//! Who holds the connections of a pool, and who waits for one, in a form that any thread can read.
//!
//! - `hold_slot`: a connection that is out of its pool
//! - `wait_slots`: the callers that wait for a connection
//! - `report`: both, to be shown
//!
//! Checkouts, queries and waits store into atomics, without a lock. A reader needs nothing from the threads that have the
//! connections, so it sees who holds them while all of them are stuck. No slot contains a value, a path or a text of SQL.

mod hold_slot;
mod report;
mod wait_slots;

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use vitals_registry::Gauge;

use super::{
    families::DatabaseFamilies,
    held_seconds::HeldSeconds,
    locks::{LockWatch, OwnConnection},
};
use crate::{
    clock::{self, Moment},
    log_limit::LogLimit,
    watchdog,
};

pub(super) use report::{in_words, seconds};

pub use hold_slot::HoldActivity;
use hold_slot::HoldReading;
pub(super) use hold_slot::HoldSlot;
pub use report::{HeldConnection, PoolReport, WaitingCaller};
pub(super) use wait_slots::{WaitNumber, WaitSlots};

/// The least time between two lines about the holders of one pool.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// Why a line about the holders of a pool may be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineReason {
    /// A caller got no connection in time, or was rejected.
    Rejected,
    /// A caller has waited for long.
    LongWait,
}

impl LineReason {
    /// Whether the holders are a reason for the wait. While a pool that is not full opens connections, they are not.
    pub(super) fn applies_to(self, report: &PoolReport) -> bool {
        match self {
            Self::Rejected => report.level.checked_out > 0,
            Self::LongWait => report.level.checked_out >= report.level.max,
        }
    }
}

/// The holders and the waiting callers of one pool.
#[derive(Debug)]
pub(super) struct PoolHolders {
    /// Locked when a connection is opened, and by readers.
    slots: Mutex<Vec<Weak<HoldSlot>>>,
    pub(super) waits: WaitSlots,
    /// All callers that wait, those without a slot included.
    waiters: Arc<Gauge>,
    pub(super) held_seconds: Arc<HeldSeconds>,
    /// Callers that were rejected since the last line.
    rejected: AtomicU64,
    /// Whether a caller was rejected, and no line has said so.
    wants_line: AtomicBool,
    /// When the last line was written, in nanoseconds of a [`Moment`]; 0 before the first.
    last_line: AtomicU64,
    pub(super) leak_lines: LogLimit,
    pub(super) locks: LockWatch,
}

impl PoolHolders {
    pub(super) fn new(families: &DatabaseFamilies, pool: &str) -> Arc<Self> {
        Arc::new(Self {
            slots: Mutex::default(),
            waits: WaitSlots::default(),
            waiters: families.pool_waiters.series([pool]),
            held_seconds: HeldSeconds::new(families, pool),
            rejected: AtomicU64::new(0),
            wants_line: AtomicBool::new(false),
            last_line: AtomicU64::new(0),
            leak_lines: LogLimit::new(),
            locks: LockWatch::default(),
        })
    }

    /// The name of the pool.
    pub(super) fn pool(&self) -> &Arc<str> {
        self.held_seconds.pool()
    }

    /// Returns the slot of a new connection.
    pub(super) fn new_slot(&self) -> Arc<HoldSlot> {
        let slot = Arc::new(HoldSlot::new(&self.held_seconds));
        let mut slots = self.slots();
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        slot
    }

    /// Notes that a caller got no connection in time, or was rejected because too many wait.
    #[cold]
    pub(super) fn rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
        // The line names the holders of this moment, so the watchdog looks at once.
        if self.line_is_allowed(clock::now()) && !self.wants_line.swap(true, Relaxed) {
            watchdog::wake();
        }
    }

    fn line_is_allowed(&self, now: Moment) -> bool {
        let last = self.last_line.load(Relaxed);
        last == 0 || now.since(Moment::from_nanoseconds(last)) >= LINE_INTERVAL
    }

    /// Why a line about the holders may be due: a caller was rejected, or has waited for at least `threshold`.
    pub(super) fn line_reason(&self, threshold: Duration, now: Moment) -> Option<LineReason> {
        if !self.line_is_allowed(now) {
            return None;
        }
        if self.wants_line.swap(false, Relaxed) {
            return Some(LineReason::Rejected);
        }
        let since = self.waits.longest_since()?;
        (now.since(since) >= threshold).then_some(LineReason::LongWait)
    }

    /// Whether no connection is out, nobody waits for one, and no line is wanted.
    pub(super) fn is_quiet(&self) -> bool {
        let slots = self.slots();
        let mut slots = slots.iter().filter_map(Weak::upgrade);
        !self.wants_line.load(Relaxed)
            && self.waits.longest_since().is_none()
            && slots.all(|slot| !slot.is_out())
    }

    /// Notes that a line is written. Returns how many callers were rejected since the last one.
    pub(super) fn begin_line(&self, now: Moment) -> u64 {
        self.last_line.store(now.nanoseconds().max(1), Relaxed);
        self.rejected.swap(0, Relaxed)
    }

    /// The connections that exist, with their holders.
    pub(super) fn connections(&self, now: Moment) -> Vec<OwnConnection> {
        let slots = self.open_slots().into_iter();
        slots
            .map(|slot| OwnConnection {
                backend: slot.backend().map_or(0, NonZeroU32::get),
                age: now.since(slot.opened_at()),
                has_written: slot.has_written(),
                hold: (slot.read()).map(|reading| HeldConnection::new(&reading, now)),
            })
            .collect()
    }

    /// How long the query has run that began first of those that run.
    pub(super) fn longest_query(&self, now: Moment) -> Option<Duration> {
        let running = self
            .read()
            .filter(|(_, reading)| reading.activity == HoldActivity::Query);
        let ages = running.map(|(_, reading)| now.since(reading.activity_since));
        ages.max()
    }

    /// The slots of the connections that exist.
    fn open_slots(&self) -> Vec<Arc<HoldSlot>> {
        self.slots().iter().filter_map(Weak::upgrade).collect()
    }

    fn read(&self) -> impl Iterator<Item = (Arc<HoldSlot>, HoldReading)> {
        let slots = self.open_slots().into_iter();
        slots.filter_map(|slot| slot.read().map(|reading| (slot, reading)))
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Weak<HoldSlot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::owner::WorkOwner;
    use crate::database::DatabaseFamilies;
    use crate::database::levels::PoolLevel;

    const THRESHOLD: Duration = Duration::from_millis(500);

    fn holders() -> Arc<PoolHolders> {
        PoolHolders::new(&DatabaseFamilies::of_a_test(), "default")
    }

    fn at(milliseconds: u64) -> Moment {
        Moment::from_nanoseconds(milliseconds * 1_000_000)
    }

    #[test]
    fn a_long_wait_is_a_reason_for_a_line_once_a_minute() {
        let holders = holders();
        assert_eq!(holders.line_reason(THRESHOLD, at(1_000)), None);
        let number = holders.waits.enter(WorkOwner::default(), at(1_000));
        for (milliseconds, expected) in [
            (1_499, None),
            (1_500, Some(LineReason::LongWait)),
            (9_000, Some(LineReason::LongWait)),
        ] {
            let reason = holders.line_reason(THRESHOLD, at(milliseconds));
            assert_eq!(reason, expected, "{milliseconds}");
        }
        assert_eq!(holders.begin_line(at(9_000)), 0);
        assert_eq!(holders.line_reason(THRESHOLD, at(68_999)), None);
        let reason = holders.line_reason(THRESHOLD, at(69_000));
        assert_eq!(reason, Some(LineReason::LongWait));
        holders.waits.leave(number);
        assert_eq!(holders.line_reason(THRESHOLD, at(69_000)), None);
    }

    #[test]
    fn callers_that_are_rejected_are_a_reason_and_are_counted() {
        let holders = holders();
        holders.rejected();
        holders.rejected();
        let now = clock::now();
        let reason = holders.line_reason(THRESHOLD, now);
        assert_eq!(reason, Some(LineReason::Rejected));
        assert_eq!(holders.begin_line(now), 2);
        holders.rejected();
        assert_eq!(holders.line_reason(THRESHOLD, now), None);
        assert_eq!(holders.begin_line(now), 1, "it is part of the next line");
    }

    #[test]
    fn a_line_needs_connections_that_are_out() {
        for (checked_out, reason, expected, why) in [
            (2, LineReason::LongWait, true, "all are out"),
            (1, LineReason::LongWait, false, "one is being opened"),
            (1, LineReason::Rejected, true, "the other cannot be opened"),
            (0, LineReason::Rejected, false, "nobody holds one"),
        ] {
            let level = PoolLevel {
                checked_out,
                idle: 0,
                max: 2,
            };
            let report = holders().report("default".into(), level);
            assert_eq!(reason.applies_to(&report), expected, "{why}");
        }
    }
}
