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
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use vitals_registry::Gauge;

use super::{families::DatabaseFamilies, held_seconds::HeldSeconds};
use crate::{
    clock::{self, Moment},
    log_limit::LogLimit,
    watchdog,
};

pub use hold_slot::HoldActivity;
use hold_slot::HoldReading;
pub(super) use hold_slot::HoldSlot;
pub use report::{HeldConnection, PoolReport, WaitingCaller};
pub(super) use wait_slots::{WaitNumber, WaitSlots};

/// The least time between two lines about the holders of one pool.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// The holders and the waiting callers of one pool.
#[derive(Debug)]
pub(super) struct PoolHolders {
    /// Locked when a connection is opened, and by readers.
    slots: Mutex<Vec<Weak<HoldSlot>>>,
    pub(super) waits: WaitSlots,
    /// All callers that wait, those without a slot included.
    waiters: Arc<Gauge>,
    pub(super) held_seconds: Arc<HeldSeconds>,
    /// Callers that were turned away since the last line.
    turned_away: AtomicU64,
    /// Whether a caller was turned away, and no line has said so.
    wants_line: AtomicBool,
    /// When the last line was written, in nanoseconds of a [`Moment`]; 0 before the first.
    last_line: AtomicU64,
    pub(super) leak_lines: LogLimit,
}

impl PoolHolders {
    pub(super) fn new(families: &DatabaseFamilies, pool: &str) -> Arc<Self> {
        Arc::new(Self {
            slots: Mutex::default(),
            waits: WaitSlots::default(),
            waiters: families.pool_waiters.series([pool]),
            held_seconds: HeldSeconds::new(families, pool),
            turned_away: AtomicU64::new(0),
            wants_line: AtomicBool::new(false),
            last_line: AtomicU64::new(0),
            leak_lines: LogLimit::new(),
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
    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
        // The line names the holders of this moment, so the watchdog looks at once.
        if self.line_is_allowed(clock::now()) && !self.wants_line.swap(true, Relaxed) {
            watchdog::wake();
        }
    }

    fn line_is_allowed(&self, now: Moment) -> bool {
        let last = self.last_line.load(Relaxed);
        last == 0 || now.since(Moment::from_nanoseconds(last)) >= LINE_INTERVAL
    }

    /// Whether a line about the holders is due: a caller was turned away, or has waited for at least `threshold`. If so,
    /// returns how many were turned away since the last line.
    pub(super) fn take_line(&self, threshold: Duration, now: Moment) -> Option<u64> {
        if !self.line_is_allowed(now) {
            return None;
        }
        let longest = self.waits.longest_since();
        let is_long = longest.is_some_and(|since| now.since(since) >= threshold);
        if !self.wants_line.swap(false, Relaxed) && !is_long {
            return None;
        }
        self.last_line.store(now.nanoseconds().max(1), Relaxed);
        Some(self.turned_away.swap(0, Relaxed))
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
