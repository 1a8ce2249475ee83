//! The table of statements that all recorders of a service share, and the statements in it.
//!
//! The table keeps a bounded number of shapes. A statement is found by the hash of its shape, in one of several parts with
//! a lock each; [`ConnectionStatements`](super::ConnectionStatements) spares a connection even that. A full table keeps no further shape until it has
//! made room, which it does when it is read: by a scrape, a report or the live page. The least costly give way.
//!
//! Queries of statements that are not kept are counted nowhere in the table. The row [`OTHER`] is the difference between
//! the families of all queries and the rows of the kept statements, so that the rows always add up to the families.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use vitals_registry::{Counter, Distribution, HistogramSnapshot};

use super::total::{Counted, Totals};
use crate::clock::{self, Moment};
use crate::context::StatementShapes;
use crate::database::sql::Operation;

/// Statements that the table keeps at most, unless set otherwise.
pub(crate) const DEFAULT_CAPACITY: usize = 1000;

/// The most endpoints that are listed for a statement: the first that ran it.
pub(super) const ENDPOINTS: usize = 8;

/// How long a statement is kept at least.
pub(super) const MIN_AGE: Duration = Duration::from_secs(60);

/// The text of the row for all statements that are not kept.
pub(crate) const OTHER: &str = "(other)";

/// Parts of the table, each with a lock.
const PARTS: usize = 16;

/// What makes a statement itself, also after the table has given it up.
#[derive(Debug)]
pub(super) struct StatementShape {
    hash: u64,
    operation: Operation,
    text: Box<str>,
}

/// A kept shape, and its cost since it was first seen.
#[derive(Debug)]
pub(super) struct Statement {
    number: NonZeroU32,
    shape: Arc<StatementShape>,
    retired: AtomicBool,
    seconds: Distribution,
    errors: Counter,
    unattributed: Counter,
    first_seen: SystemTime,
    /// When it was first seen, as time since the table was made.
    born: Duration,
    /// Seconds since the table was made.
    last_seen_seconds: AtomicU64,
    endpoints: Mutex<Vec<String>>,
}

impl Statement {
    /// The number that tells it from others, and from the same shape after it was retired.
    pub(super) fn number(&self) -> NonZeroU32 {
        self.number
    }

    pub(super) fn shape(&self) -> &Arc<StatementShape> {
        &self.shape
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// It was run; `at` is the time since the table was made.
    #[inline]
    pub(super) fn ran(&self, took: Duration, at: Duration) {
        self.seconds.observe(took.as_secs_f64());
        touch(&self.last_seen_seconds, at);
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
        lock(&self.endpoints)
    }
}

/// Keeps the second `at`. Writes once a second, so that threads do not take the cache line from each other.
#[inline]
fn touch(last_seen_seconds: &AtomicU64, at: Duration) {
    if last_seen_seconds.load(Relaxed) != at.as_secs() {
        last_seen_seconds.store(at.as_secs(), Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The statements that cost most, by shape; cheap to clone, and all clones are one table.
#[derive(Clone, Debug)]
pub struct Statements {
    table: Arc<StatementTable>,
}

#[derive(Debug)]
struct StatementTable {
    capacity: usize,
    made: Moment,
    hasher: DefaultHashBuilder,
    parts: [Mutex<HashTable<Arc<Statement>>>; PARTS],
    /// Locked within the lock of a part, never around one.
    by_number: Mutex<HashMap<NonZeroU32, Arc<Statement>>>,
    kept: AtomicUsize,
    next_number: AtomicU32,
    /// Rises when the table has room again: it may now keep shapes that it refused before.
    epoch: AtomicU32,
    /// A statement was not kept since the table was read last.
    has_refused: AtomicBool,
    evicted: AtomicU64,
    /// What all queries have counted, kept or not.
    counted: Counted,
    /// Their counts at the last reset of the table, and its time.
    beginning: Mutex<(Totals, SystemTime)>,
    /// When a statement that is not kept was run last, in seconds since the table was made.
    other_last_seen_seconds: AtomicU64,
}

/// How [`Statements::report`] orders the rows, the most first.
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
    /// Its shape: the text without literals and binds. `(other)` for all statements that are not kept.
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
    /// The endpoints that ran it first, at most 8, with their methods: `GET /data/{item_id}`. Empty for `(other)`.
    pub endpoints: Vec<String>,
    /// When it was first seen. For `(other)`, when counting began: at the start, or at the last reset.
    pub first_seen: SystemTime,
    /// When it was last seen, to the second.
    pub last_seen: SystemTime,
}

impl StatementShapes for Statements {
    fn ran_by(&self, shape: NonZeroU32, method: &str, endpoint: &str) {
        let Some(statement) = self.find(shape) else {
            return;
        };
        let mut endpoints = statement.lock_endpoints();
        if endpoints.len() < ENDPOINTS {
            let name = format!("{method} {endpoint}");
            if !endpoints.contains(&name) {
                endpoints.push(name);
            }
        }
    }

    fn text(&self, shape: NonZeroU32) -> Option<String> {
        Some(self.find(shape)?.shape.text.to_string())
    }
}

/// The part that statements of this hash are in. A hash table takes its lower bits for a place within.
fn part_of(hash: u64) -> usize {
    (hash >> 32) as usize % PARTS
}

impl Statements {
    /// A table of at most `capacity` shapes, at least one, of the queries that are `counted`.
    pub(crate) fn new(capacity: usize, counted: Counted) -> Self {
        Self {
            table: Arc::new(StatementTable {
                capacity: capacity.max(1),
                made: clock::now(),
                hasher: DefaultHashBuilder::default(),
                parts: Default::default(),
                by_number: Mutex::default(),
                kept: AtomicUsize::new(0),
                next_number: AtomicU32::new(1),
                epoch: AtomicU32::new(0),
                has_refused: AtomicBool::new(false),
                evicted: AtomicU64::new(0),
                beginning: Mutex::new((Totals::default(), SystemTime::now())),
                counted,
                other_last_seen_seconds: AtomicU64::new(0),
            }),
        }
    }

    /// Statements that the table keeps at most.
    pub(super) fn capacity(&self) -> usize {
        self.table.capacity
    }

    /// Statements that the table keeps now.
    pub(super) fn kept(&self) -> usize {
        self.table.kept.load(Relaxed)
    }

    /// Statements that gave way to others since the start.
    pub(super) fn evicted(&self) -> u64 {
        self.table.evicted.load(Relaxed)
    }

    /// Time since the table was made.
    #[inline]
    pub(super) fn age(&self, now: Moment) -> Duration {
        now.since(self.table.made)
    }

    /// Changes when the table may keep shapes that it refused before.
    #[inline]
    pub(super) fn epoch(&self) -> u32 {
        self.table.epoch.load(Relaxed)
    }

    /// The hash of a shape, the same for all connections.
    pub(super) fn hash(&self, text: &str, operation: Operation) -> u64 {
        use std::hash::BuildHasher as _;
        self.table.hasher.hash_one((text, operation.index()))
    }

    /// The statement of a shape with this hash, if the table keeps it or has room for it.
    pub(super) fn of_text(
        &self,
        hash: u64,
        text: &str,
        operation: Operation,
    ) -> Option<Arc<Statement>> {
        self.find_or_keep(hash, text, operation, || {
            Arc::new(StatementShape {
                hash,
                operation,
                text: text.into(),
            })
        })
    }

    /// The statement of a shape, if the table keeps it or has room for it.
    pub(super) fn of_shape(&self, shape: &Arc<StatementShape>) -> Option<Arc<Statement>> {
        self.find_or_keep(shape.hash, &shape.text, shape.operation, || {
            Arc::clone(shape)
        })
    }

    fn find_or_keep(
        &self,
        hash: u64,
        text: &str,
        operation: Operation,
        shape: impl FnOnce() -> Arc<StatementShape>,
    ) -> Option<Arc<Statement>> {
        let table = &*self.table;
        let mut part = lock(&table.parts[part_of(hash)]);
        let is_it = |statement: &Arc<Statement>| {
            *statement.shape.text == *text && statement.shape.operation == operation
        };
        if let Some(known) = part.find(hash, is_it) {
            return Some(Arc::clone(known));
        }
        let has_room = |kept| (kept < table.capacity).then_some(kept + 1);
        if table.kept.fetch_update(Relaxed, Relaxed, has_room).is_err() {
            table.has_refused.store(true, Relaxed);
            return None;
        }
        let born = self.age(clock::now());
        let number = table.next_number.fetch_add(1, Relaxed);
        let statement = Arc::new(Statement {
            // It wraps around after four billion shapes; two of the same number have never met by then.
            number: NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN),
            shape: shape(),
            retired: AtomicBool::new(false),
            seconds: Distribution::default(),
            errors: Counter::new(1),
            unattributed: Counter::new(1),
            first_seen: SystemTime::now(),
            born,
            last_seen_seconds: AtomicU64::new(born.as_secs()),
            endpoints: Mutex::default(),
        });
        part.insert_unique(hash, Arc::clone(&statement), |other| other.shape.hash);
        lock(&table.by_number).insert(statement.number, Arc::clone(&statement));
        Some(statement)
    }

    /// A statement that is not kept was run; `at` is the time since the table was made.
    #[inline]
    pub(super) fn ran_other(&self, at: Duration) {
        touch(&self.table.other_last_seen_seconds, at);
    }

    /// A statement failed, kept or not.
    pub(super) fn failed(&self) {
        self.table.counted.failed();
    }

    fn find(&self, number: NonZeroU32) -> Option<Arc<Statement>> {
        lock(&self.table.by_number).get(&number).cloned()
    }

    /// The kept statements, in the order in which they were first seen.
    fn list(&self) -> Vec<Arc<Statement>> {
        let mut list: Vec<_> = lock(&self.table.by_number).values().cloned().collect();
        list.sort_unstable_by_key(|statement| (statement.born, statement.number));
        list
    }

    /// Gives a statement up. Its counts are part of the row [`OTHER`] from now on.
    fn retire(&self, statement: &Arc<Statement>) {
        let table = &*self.table;
        let hash = statement.shape.hash;
        let mut part = lock(&table.parts[part_of(hash)]);
        if let Ok(entry) = part.find_entry(hash, |other| Arc::ptr_eq(other, statement)) {
            entry.remove();
            lock(&table.by_number).remove(&statement.number);
            table.kept.fetch_sub(1, Relaxed);
            statement.retired.store(true, Relaxed);
        }
    }

    /// Makes room where the table is full and has refused a statement: a tenth gives way, of the less costly half and of
    /// at least [`MIN_AGE`]. The other half stays, however many statements come and go.
    pub(super) fn make_room(&self, age: Duration) {
        let table = &*self.table;
        if !table.has_refused.load(Relaxed) {
            return;
        }
        let mut leaving = self.list();
        // The bits of numbers that are not negative are in the order of the numbers.
        leaving.sort_by_cached_key(|statement| statement.seconds.sum().to_bits());
        leaving.truncate(leaving.len().div_ceil(2));
        leaving.retain(|statement| age.saturating_sub(statement.born) >= MIN_AGE);
        leaving.truncate((table.capacity / 10).max(1));
        if leaving.is_empty() {
            return;
        }
        for statement in &leaving {
            self.retire(statement);
            self.ran_other(Duration::from_secs(
                statement.last_seen_seconds.load(Relaxed),
            ));
        }
        table.evicted.fetch_add(leaving.len() as u64, Relaxed);
        table.has_refused.store(false, Relaxed);
        table.epoch.fetch_add(1, Relaxed);
    }

    /// What the statements have cost: the first `limit` in that order. Where there are queries of statements that are not
    /// kept, the row `(other)` follows, beyond the limit.
    pub fn report(&self, order: Order, limit: usize) -> Vec<StatementReport> {
        self.make_room(self.age(clock::now()));
        // Before the rows: a query that ends meanwhile is in its row and not in the total, never the other way round.
        let (totals, since) = self.totals();
        let mut kept = Totals::default();
        let mut reports = Vec::new();
        for statement in self.list() {
            let seconds = statement.seconds.snapshot();
            if seconds.count > 0 {
                let report = self.report_one(&statement, &seconds);
                kept.add(&seconds, report.errors, report.unattributed_calls);
                reports.push(report);
            }
        }
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
        reports.extend(self.report_other(&totals.since(&kept), since));
        reports
    }

    fn report_one(&self, statement: &Statement, seconds: &HistogramSnapshot) -> StatementReport {
        StatementReport {
            statement: statement.shape.text.to_string(),
            operation: statement.shape.operation,
            calls: seconds.count,
            errors: statement.errors.value(),
            unattributed_calls: statement.unattributed.value(),
            total_seconds: seconds.sum,
            mean_seconds: seconds.mean().unwrap_or_default(),
            p95_seconds: seconds.quantile(0.95).unwrap_or_default(),
            endpoints: statement.lock_endpoints().clone(),
            first_seen: statement.first_seen,
            last_seen: self
                .last_seen(&statement.last_seen_seconds)
                .max(statement.first_seen),
        }
    }

    /// Returns the row of the statements that are not kept; `None` if there are none.
    fn report_other(&self, other: &Totals, since: SystemTime) -> Option<StatementReport> {
        let seconds = &other.seconds;
        (seconds.count > 0).then(|| StatementReport {
            statement: OTHER.to_owned(),
            operation: Operation::Other,
            calls: seconds.count,
            errors: other.errors,
            unattributed_calls: other.unattributed,
            // Sums of floats do not cancel out to the last bit.
            total_seconds: seconds.sum.max(0.0),
            mean_seconds: seconds.mean().unwrap_or_default().max(0.0),
            p95_seconds: seconds.quantile(0.95).unwrap_or_default(),
            endpoints: Vec::new(),
            first_seen: since,
            last_seen: self
                .last_seen(&self.table.other_last_seen_seconds)
                .max(since),
        })
    }

    /// A point in time by how long ago it was, so that two clocks do not part over the days.
    fn last_seen(&self, seconds: &AtomicU64) -> SystemTime {
        let last_seen = Duration::from_secs(seconds.load(Relaxed));
        SystemTime::now() - self.age(clock::now()).saturating_sub(last_seen)
    }

    /// What all queries have counted since the last reset, and when that was.
    fn totals(&self) -> (Totals, SystemTime) {
        let beginning = lock(&self.table.beginning);
        let totals = self.table.counted.totals();
        (totals.since(&beginning.0), beginning.1)
    }

    /// Forgets everything; counting begins anew.
    pub fn reset(&self) {
        let mut beginning = lock(&self.table.beginning);
        for statement in self.list() {
            self.retire(&statement);
        }
        *beginning = (self.table.counted.totals(), SystemTime::now());
        self.table.has_refused.store(false, Relaxed);
        self.table.epoch.fetch_add(1, Relaxed);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.kept() == 0
    }
}
