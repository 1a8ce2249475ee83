//! One statement of the table: what identifies it, and what is counted of its runs.
//!
//! The identity outlives the statement: a connection that knows it finds, or makes, the successor of an evicted statement.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use vitals_registry::{Counter, Distribution, DistributionWriter, HistogramSnapshot};

use super::super::explained::ExplainedText;
use super::super::history::History;
use super::super::total::Totals;
use super::lock;
use crate::database::sql::Operation;

/// What identifies a statement, also after the table has evicted it.
#[derive(Debug)]
pub(in super::super) struct StatementShape {
    pub(super) hash: u64,
    pub(super) operation: Operation,
    pub(super) text: Box<str>,
    /// The pool that runs it; empty outside of any pool.
    pub(super) pool: Arc<str>,
    /// The text that is explained.
    pub(in super::super) explained: Mutex<ExplainedText>,
}

impl StatementShape {
    pub(in super::super) fn operation(&self) -> Operation {
        self.operation
    }

    pub(in super::super) fn text(&self) -> &str {
        &self.text
    }

    /// The pool that runs it; empty outside of any pool.
    pub(in super::super) fn pool(&self) -> &Arc<str> {
        &self.pool
    }

    /// The pool that runs it; `None` outside of any pool.
    pub(super) fn pool_name(&self) -> Option<String> {
        (!self.pool.is_empty()).then(|| self.pool.to_string())
    }
}

/// A kept shape, and its cost.
#[derive(Debug)]
pub(in super::super) struct Statement {
    pub(super) number: NonZeroU32,
    pub(super) shape: Arc<StatementShape>,
    pub(super) retired: AtomicBool,
    /// Whether the stack of the next run is to be captured.
    pub(super) is_location_wanted: AtomicBool,
    pub(super) seconds: Distribution,
    pub(super) errors: Counter,
    pub(super) unattributed: Counter,
    pub(super) first_seen: SystemTime,
    /// When it was first seen, as time since the table was created.
    pub(super) first_seen_at: Duration,
    /// When it was last seen, in seconds since the table was created.
    pub(super) last_seen_seconds: AtomicU64,
    pub(super) endpoints: Mutex<Vec<String>>,
    pub(super) history: Mutex<History>,
    /// The counts at the last reset.
    pub(super) beginning: Mutex<Totals>,
}

impl Statement {
    /// A number that no other statement has; the same shape gets another number after it was retired.
    pub(in super::super) fn number(&self) -> NonZeroU32 {
        self.number
    }

    pub(in super::super) fn shape(&self) -> &Arc<StatementShape> {
        &self.shape
    }

    /// The text of its shape, and the pool that runs it; empty outside of any pool.
    pub(in super::super) fn describe(&self) -> (String, String) {
        (self.shape.text.to_string(), self.shape.pool.to_string())
    }

    pub(in super::super) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// Counts a run, by `writer` if there is one; `at` is the time since the table was created. Returns whether its stack is
    /// to be captured.
    #[inline]
    pub(in super::super) fn ran(
        &self,
        writer: Option<&DistributionWriter>,
        seconds: f64,
        at: Duration,
    ) -> bool {
        match writer {
            Some(writer) => writer.observe(seconds),
            None => self.seconds.observe(seconds),
        }
        touch(&self.last_seen_seconds, at);
        self.is_location_wanted.load(Relaxed)
    }

    /// Counts runs of one connection at a lower cost.
    pub(in super::super) fn writer(&self) -> DistributionWriter {
        self.seconds.writer()
    }

    /// Notes that the stack of a run was captured.
    pub(in super::super) fn located(&self) {
        self.is_location_wanted.store(false, Relaxed);
    }

    /// Counts a failed run.
    pub(in super::super) fn failed(&self) {
        self.errors.inc();
    }

    /// Counts a run outside of any request and job.
    pub(in super::super) fn unattributed(&self) {
        self.unattributed.inc();
    }

    /// The calls since it was first seen.
    pub(in super::super) fn calls(&self) -> HistogramSnapshot {
        self.seconds.snapshot()
    }

    /// The counts since it was first seen.
    fn totals(&self) -> Totals {
        Totals {
            seconds: self.seconds.snapshot(),
            errors: self.errors.value(),
            unattributed: self.unattributed.value(),
        }
    }

    /// The counts since the last reset.
    pub(super) fn counts(&self) -> Totals {
        self.totals().since(&lock(&self.beginning))
    }

    /// Starts counting at zero.
    pub(super) fn reset(&self) {
        *lock(&self.beginning) = self.totals();
    }

    pub(super) fn lock_endpoints(&self) -> MutexGuard<'_, Vec<String>> {
        lock(&self.endpoints)
    }
}

/// Stores the second `at`. Writes at most once a second, so that threads do not contend for the cache line.
#[inline]
pub(super) fn touch(last_seen_seconds: &AtomicU64, at: Duration) {
    if last_seen_seconds.load(Relaxed) != at.as_secs() {
        last_seen_seconds.store(at.as_secs(), Relaxed);
    }
}
