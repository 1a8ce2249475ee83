//! The bounded table of statements that all recorders of a service share, and the statements in it.

use std::cmp::Reverse;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::registry::{Counter, Distribution, HistogramSnapshot};

use crate::vitals::clock::{self, Moment};
use crate::vitals::context::Shapes;
use crate::vitals::database::sql::Operation;

/// Shapes that the table holds at most, unless set otherwise.
const DEFAULT_CAPACITY: usize = 200;

/// Endpoints that are told of a statement; those that ran it first.
pub(super) const ENDPOINTS: usize = 8;

/// A shape, and what it has cost since it was first seen.
#[derive(Debug)]
pub(super) struct Statement {
    shape: NonZeroU32,
    operation: Operation,
    text: Box<str>,
    retired: AtomicBool,
    seconds: Distribution,
    errors: Counter,
    unattributed: Counter,
    first_seen: SystemTime,
    /// Seconds since the table was made.
    last_seen_seconds: AtomicU64,
    endpoints: Mutex<Vec<String>>,
}

impl Statement {
    /// The number that tells it from others, and from the same shape after it was retired.
    pub(super) fn shape(&self) -> NonZeroU32 {
        self.shape
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// It was run; `at` is the time since the table was made.
    #[inline]
    pub(super) fn ran(&self, took: Duration, at: Duration) {
        self.seconds.observe(took.as_secs_f64());
        // Written once a second, so that threads do not take the cache line from each other.
        if self.last_seen_seconds.load(Relaxed) != at.as_secs() {
            self.last_seen_seconds.store(at.as_secs(), Relaxed);
        }
    }

    /// It failed.
    pub(super) fn failed(&self) {
        self.errors.inc();
    }

    /// It ran outside of any request and job.
    pub(super) fn unattributed(&self) {
        self.unattributed.inc();
    }

    fn lock_endpoints(&self) -> MutexGuard<'_, Vec<String>> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The statements that cost most, by shape; cheap to clone, and all clones are one table.
#[derive(Clone, Debug)]
pub struct Statements {
    table: Arc<Table>,
}

#[derive(Debug)]
struct Table {
    capacity: usize,
    made: Moment,
    next_shape: AtomicU32,
    entries: Mutex<Vec<Arc<Statement>>>,
}

/// How [`Statements::report`] orders what it tells, the most first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// By the time of all calls.
    #[default]
    Total,
    /// By the mean time of a call.
    Mean,
    /// By the number of calls.
    Calls,
    /// By the number of errors.
    Errors,
    /// By the 95th percentile of the time of a call.
    P95,
}

/// What one statement has cost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatementReport {
    /// Its shape: the text without literals and binds.
    pub statement: String,
    /// What it does.
    pub operation: Operation,
    /// How often it came to an end, well or not.
    pub calls: u64,
    /// How often it failed.
    pub errors: u64,
    /// How often it ran outside of any request and job.
    pub unattributed_calls: u64,
    /// The time of all calls, in seconds.
    pub total_seconds: f64,
    /// The mean time of a call, in seconds.
    pub mean_seconds: f64,
    /// The time that 95 of 100 calls stayed below, in seconds; from buckets that are 2 % wide.
    pub p95_seconds: f64,
    /// The endpoints that ran it first, at most 8, with their methods: `GET /data/{item_id}`.
    pub endpoints: Vec<String>,
    /// When it was first seen.
    pub first_seen: SystemTime,
    /// When it was last seen, to the second.
    pub last_seen: SystemTime,
}

impl Shapes for Statements {
    fn ran_by(&self, shape: NonZeroU32, method: &str, endpoint: &str) {
        let Some(statement) = self.find(shape) else {
            return;
        };
        let mut endpoints = statement.lock_endpoints();
        let name = format!("{method} {endpoint}");
        if endpoints.len() < ENDPOINTS && !endpoints.contains(&name) {
            endpoints.push(name);
        }
    }

    fn text(&self, shape: NonZeroU32) -> Option<String> {
        Some(self.find(shape)?.text.to_string())
    }
}

impl Default for Statements {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl Statements {
    /// A table of at most `capacity` shapes. With more the least costly give way.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            table: Arc::new(Table {
                capacity: capacity.max(1),
                made: clock::now(),
                next_shape: AtomicU32::new(1),
                entries: Mutex::default(),
            }),
        }
    }

    /// Time since the table was made.
    #[inline]
    pub(super) fn age(&self, now: Moment) -> Duration {
        now.since(self.table.made)
    }

    /// The statement that takes the place of a retired one.
    pub(super) fn renew(&self, retired: &Statement) -> Arc<Statement> {
        self.of_shape(&retired.text, retired.operation)
    }

    /// The statement of a shape.
    pub(super) fn of_shape(&self, text: &str, operation: Operation) -> Arc<Statement> {
        let mut entries = self.lock();
        let is_it = |entry: &&Arc<Statement>| *entry.text == *text && entry.operation == operation;
        if let Some(known) = entries.iter().find(is_it) {
            return Arc::clone(known);
        }
        if entries.len() >= self.table.capacity {
            evict(&mut entries, self.table.capacity);
        }
        let age = self.age(clock::now());
        let number = self.table.next_shape.fetch_add(1, Relaxed);
        let statement = Arc::new(Statement {
            // It wraps around after four billion shapes; two of the same number have never met by then.
            shape: NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN),
            operation,
            text: text.into(),
            retired: AtomicBool::new(false),
            seconds: Distribution::default(),
            errors: Counter::new(1),
            unattributed: Counter::new(1),
            first_seen: SystemTime::now(),
            last_seen_seconds: AtomicU64::new(age.as_secs()),
            endpoints: Mutex::default(),
        });
        entries.push(Arc::clone(&statement));
        statement
    }

    fn find(&self, shape: NonZeroU32) -> Option<Arc<Statement>> {
        let entries = self.lock();
        let found = entries.iter().find(|entry| entry.shape == shape);
        found.cloned()
    }

    /// What the statements have cost: the first `limit` in that order.
    pub fn report(&self, order: Order, limit: usize) -> Vec<StatementReport> {
        let entries = self.lock().clone();
        let mut reports: Vec<StatementReport> = entries
            .iter()
            .map(|entry| self.report_one(entry))
            .filter(|report| report.calls > 0)
            .collect();
        let cost = |report: &StatementReport| match order {
            Order::Total => report.total_seconds,
            Order::Mean => report.mean_seconds,
            Order::Calls => report.calls as f64,
            Order::Errors => report.errors as f64,
            Order::P95 => report.p95_seconds,
        };
        reports.sort_by(|one, other| {
            (cost(other).total_cmp(&cost(one)))
                .then(other.total_seconds.total_cmp(&one.total_seconds))
        });
        reports.truncate(limit);
        reports
    }

    fn report_one(&self, statement: &Statement) -> StatementReport {
        let seconds: HistogramSnapshot = statement.seconds.snapshot();
        let last_seen = Duration::from_secs(statement.last_seen_seconds.load(Relaxed));
        // By how long ago it was, so that two clocks do not part over the days.
        let last_seen = SystemTime::now() - self.age(clock::now()).saturating_sub(last_seen);
        StatementReport {
            statement: statement.text.to_string(),
            operation: statement.operation,
            calls: seconds.count,
            errors: statement.errors.value(),
            unattributed_calls: statement.unattributed.value(),
            total_seconds: seconds.sum,
            mean_seconds: seconds.mean().unwrap_or_default(),
            p95_seconds: seconds.quantile(0.95).unwrap_or_default(),
            endpoints: statement.lock_endpoints().clone(),
            first_seen: statement.first_seen,
            last_seen: last_seen.max(statement.first_seen),
        }
    }

    /// Forgets everything; counting begins anew.
    pub fn reset(&self) {
        for statement in self.lock().drain(..) {
            statement.retired.store(true, Relaxed);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Statement>>> {
        (self.table.entries.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Retires the least costly twentieth, so that not every new shape has to look for one that costs less.
fn evict(entries: &mut Vec<Arc<Statement>>, capacity: usize) {
    // The bits of numbers that are not negative are in the order of the numbers.
    entries.sort_by_cached_key(|entry| Reverse(entry.seconds.sum().to_bits()));
    let kept = capacity - (capacity / 20).max(1);
    for statement in entries.drain(kept.min(entries.len())..) {
        statement.retired.store(true, Relaxed);
    }
}
