//! The slot of one pooled connection: atomics with its holder and with what it does.
//!
//! The thread that has the connection stores into its slot, and any thread may read it. The generation of a slot is odd
//! while its connection is out. A reader that finds the same odd generation before and after has read one hold (a sequence
//! lock). What the connection does is one word with its beginning, so that no reader sees one with the beginning of another.

use std::{
    num::NonZeroU32,
    panic::Location,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use crate::{
    clock::{self, Moment},
    code_location,
    context::owner::{OwnerCell, WorkOwner, current_owner},
    database::held_seconds::HeldSeconds,
    slot_generation::SlotGeneration,
    watchdog,
};

/// What a connection does while it is out of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldActivity {
    /// No query runs, and no transaction is open.
    Idle,
    /// A query runs.
    Query,
    /// A transaction is open, and no query runs.
    IdleInTransaction,
}

impl HoldActivity {
    /// Its name in reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "held_without_a_query",
            Self::Query => "query",
            Self::IdleInTransaction => "idle_in_transaction",
        }
    }

    fn of_word(word: u64) -> Self {
        match word % ACTIVITIES {
            1 => Self::Query,
            2 => Self::IdleInTransaction,
            _ => Self::Idle,
        }
    }
}

/// The factor of the beginning in a word.
const ACTIVITIES: u64 = 4;

/// An activity and its beginning, in one word.
#[inline]
fn word(activity: HoldActivity, since: Moment) -> u64 {
    since.nanoseconds().wrapping_mul(ACTIVITIES) | activity as u64
}

/// The slot of one connection.
#[derive(Debug)]
pub(in crate::database) struct HoldSlot {
    /// Counts the times of all holds of the pool.
    held_seconds: Arc<HeldSeconds>,
    generation: SlotGeneration,
    /// Nanoseconds of a [`Moment`].
    since: AtomicU64,
    owner: OwnerCell,
    /// The number of the location that took the connection; 0 if it is not known.
    taken_at: AtomicU32,
    /// The number of the statement that ran last; 0 if it is not known.
    statement: AtomicU32,
    /// An activity and its beginning.
    activity: AtomicU64,
    /// The generation of the last hold that was reported as a leak, so that each is reported once.
    reported: AtomicU64,
    /// Whether the open transaction has written.
    has_written: AtomicBool,
    /// The process of PostgreSQL that serves the connection; 0 if it is not known.
    backend: AtomicU32,
    /// When the opening of the connection began. Nanoseconds of a [`Moment`].
    opened: AtomicU64,
}

/// What a reader found in a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldReading {
    generation: u64,
    pub(super) since: Moment,
    pub(super) owner: WorkOwner,
    pub(super) taken_at: Option<&'static Location<'static>>,
    pub(super) activity: HoldActivity,
    pub(super) activity_since: Moment,
    /// The statement of the query that runs, if it is kept.
    pub(super) statement: Option<NonZeroU32>,
}

impl HoldSlot {
    pub(super) fn new(held_seconds: &Arc<HeldSeconds>) -> Self {
        Self {
            held_seconds: Arc::clone(held_seconds),
            generation: SlotGeneration::default(),
            since: AtomicU64::new(0),
            owner: OwnerCell::default(),
            taken_at: AtomicU32::new(0),
            statement: AtomicU32::new(0),
            activity: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            has_written: AtomicBool::new(false),
            backend: AtomicU32::new(0),
            opened: AtomicU64::new(clock::now().nanoseconds()),
        }
    }

    /// Notes that a connection was opened, which this process of PostgreSQL serves. The opening began at `since`: that
    /// process is no older, however long the opening took.
    pub(in crate::database) fn opened(&self, backend: Option<NonZeroU32>, since: Moment) {
        let backend = backend.map_or(0, NonZeroU32::get);
        self.backend.store(backend, Relaxed);
        self.opened.store(since.nanoseconds(), Relaxed);
        self.has_written.store(false, Relaxed);
    }

    /// The process of PostgreSQL that serves the connection, if it is known.
    pub(in crate::database) fn backend(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.backend.load(Relaxed))
    }

    /// When the opening of the connection began.
    pub(in crate::database) fn opened_at(&self) -> Moment {
        Moment::from_nanoseconds(self.opened.load(Relaxed))
    }

    /// Notes whether the open transaction has written.
    #[cold]
    pub(in crate::database) fn writes(&self, has_written: bool) {
        self.has_written.store(has_written, Relaxed);
    }

    /// Whether a transaction is open that has written.
    pub(in crate::database) fn has_written(&self) -> bool {
        self.has_written.load(Relaxed)
    }

    /// Notes that no query runs, within a transaction or outside of one.
    #[inline]
    pub(in crate::database) fn rests(&self, in_transaction: bool, since: Moment) {
        let activity = if in_transaction {
            HoldActivity::IdleInTransaction
        } else {
            HoldActivity::Idle
        };
        self.activity.store(word(activity, since), Release);
    }

    /// Notes that a query runs, with the number of its statement if that is known.
    #[inline]
    pub(in crate::database) fn runs(&self, statement: Option<NonZeroU32>, since: Moment) {
        let statement = statement.map_or(0, NonZeroU32::get);
        self.statement.store(statement, Release);
        (self.activity).store(word(HoldActivity::Query, since), Release);
    }

    /// Begins a hold for the request or job that this thread works for. The connection was taken at this location, if it
    /// is known.
    #[inline]
    pub(in crate::database) fn begin(
        &self,
        taken_at: Option<&'static Location<'static>>,
        since: Moment,
    ) {
        let taken_at = taken_at.map_or(0, code_location::number_of);
        self.begin_for(current_owner(), taken_at, since);
    }

    #[inline]
    fn begin_for(&self, owner: WorkOwner, taken_at: u32, since: Moment) {
        self.generation.begin(|_| {
            self.since.store(since.nanoseconds(), Relaxed);
            self.owner.store(owner);
            self.taken_at.store(taken_at, Relaxed);
            (self.activity).store(word(HoldActivity::Idle, since), Relaxed);
        });
        watchdog::rouse();
    }

    /// Whether the connection is out.
    #[inline]
    pub(in crate::database) fn is_out(&self) -> bool {
        self.generation.is_odd()
    }

    /// Ends the hold, and counts its time. Does nothing, and returns false, if none was begun.
    #[inline]
    pub(in crate::database) fn end(&self, held: Duration) -> bool {
        let is_out = self.is_out();
        if is_out {
            self.held_seconds.count(self.owner.load(), held);
            self.generation.end();
        }
        is_out
    }

    /// Reads the slot, if its connection is out.
    pub(super) fn read(&self) -> Option<HoldReading> {
        // Three attempts: a slot that changes each time belongs to short holds.
        (0..3).find_map(|_| self.try_read())
    }

    fn try_read(&self) -> Option<HoldReading> {
        self.generation.read(|generation| {
            let word = self.activity.load(Acquire);
            let activity = HoldActivity::of_word(word);
            let statement = self.statement.load(Acquire);
            let statement = NonZeroU32::new(statement).filter(|_| activity == HoldActivity::Query);
            let reading = HoldReading {
                generation,
                since: Moment::from_nanoseconds(self.since.load(Relaxed)),
                owner: self.owner.load(),
                taken_at: code_location::location_of(self.taken_at.load(Relaxed)),
                activity,
                activity_since: Moment::from_nanoseconds(word / ACTIVITIES),
                statement,
            };
            (self.activity.load(Relaxed) == word).then_some(reading)
        })
    }

    /// Marks a hold as reported. Returns false if it was reported before.
    pub(super) fn report(&self, reading: &HoldReading) -> bool {
        self.reported.swap(reading.generation, Relaxed) != reading.generation
    }
}

#[cfg(test)]
mod tests;
