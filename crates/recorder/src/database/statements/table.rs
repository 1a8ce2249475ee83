//! The table of statements that all recorders of a service share, and the statements in it.
//!
//! The table keeps a bounded number of shapes, of each pool its own. A statement is found by the hash of its shape, in one of several parts with
//! a lock each; `ConnectionStatements` avoids even that for shapes that a connection has run before. A full table keeps no
//! further shape until it has evicted some, which it does when it is read: by a scrape, a report or the live page. It
//! evicts the least costly.
//!
//! The table does not count queries of statements that it does not keep. The row [`OTHER`] is the difference between the
//! families of all queries and the rows of the kept statements, so that the rows always add up to the families.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use vitals_registry::{Counter, Distribution, DistributionWriter, HistogramSnapshot};

use super::explained::ExplainedText;
use super::history::{History, StatementMinute, minute_at};
use super::total::{Counted, Totals};
use crate::clock::{self, Moment};
use crate::context::StatementShapes;
use crate::database::sql::Operation;
use crate::suspicions::Suspicions;
use crate::watchdog::{self, Sight};

/// The default capacity of the table.
pub(crate) const DEFAULT_CAPACITY: usize = 1000;

/// The most endpoints that are listed for a statement. The first ones to run it are kept.
pub(super) const ENDPOINTS: usize = 8;

/// A statement is kept for at least this long.
pub(super) const MIN_AGE: Duration = Duration::from_secs(60);

/// The text of the row for all statements that are not kept.
pub(crate) const OTHER: &str = "(other)";

/// Parts of the table, each with a lock.
const PARTS: usize = 16;

/// What identifies a statement, also after the table has evicted it.
#[derive(Debug)]
pub(super) struct StatementShape {
    hash: u64,
    operation: Operation,
    text: Box<str>,
    /// The pool that runs it; empty outside of any pool.
    pool: Arc<str>,
    /// The text that is explained.
    pub(super) explained: Mutex<ExplainedText>,
}

impl StatementShape {
    pub(super) fn operation(&self) -> Operation {
        self.operation
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The pool that runs it; empty outside of any pool.
    pub(super) fn pool(&self) -> &Arc<str> {
        &self.pool
    }

    /// The pool that runs it; `None` outside of any pool.
    fn pool_name(&self) -> Option<String> {
        (!self.pool.is_empty()).then(|| self.pool.to_string())
    }
}

/// A kept shape, and its cost.
#[derive(Debug)]
pub(super) struct Statement {
    number: NonZeroU32,
    shape: Arc<StatementShape>,
    retired: AtomicBool,
    /// Whether the stack of the next run is to be captured.
    is_location_wanted: AtomicBool,
    seconds: Distribution,
    errors: Counter,
    unattributed: Counter,
    first_seen: SystemTime,
    /// When it was first seen, as time since the table was created.
    first_seen_at: Duration,
    /// When it was last seen, in seconds since the table was created.
    last_seen_seconds: AtomicU64,
    endpoints: Mutex<Vec<String>>,
    history: Mutex<History>,
    /// The counts at the last reset.
    beginning: Mutex<Totals>,
}

impl Statement {
    /// A number that no other statement has; the same shape gets another number after it was retired.
    pub(super) fn number(&self) -> NonZeroU32 {
        self.number
    }

    pub(super) fn shape(&self) -> &Arc<StatementShape> {
        &self.shape
    }

    /// The text of its shape, and the pool that runs it; empty outside of any pool.
    pub(super) fn describe(&self) -> (String, String) {
        (self.shape.text.to_string(), self.shape.pool.to_string())
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// Counts a run, by `writer` if there is one; `at` is the time since the table was created. Returns whether its stack is
    /// to be captured.
    #[inline]
    pub(super) fn ran(
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
    pub(super) fn writer(&self) -> DistributionWriter {
        self.seconds.writer()
    }

    /// Notes that the stack of a run was captured.
    pub(super) fn located(&self) {
        self.is_location_wanted.store(false, Relaxed);
    }

    /// Counts a failed run.
    pub(super) fn failed(&self) {
        self.errors.inc();
    }

    /// Counts a run outside of any request and job.
    pub(super) fn unattributed(&self) {
        self.unattributed.inc();
    }

    /// The calls since it was first seen.
    pub(super) fn calls(&self) -> HistogramSnapshot {
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
    fn counts(&self) -> Totals {
        self.totals().since(&lock(&self.beginning))
    }

    fn reset(&self) {
        *lock(&self.beginning) = self.totals();
    }

    fn lock_endpoints(&self) -> MutexGuard<'_, Vec<String>> {
        lock(&self.endpoints)
    }
}

/// Stores the second `at`. Writes at most once a second, so that threads do not contend for the cache line.
#[inline]
fn touch(last_seen_seconds: &AtomicU64, at: Duration) {
    if last_seen_seconds.load(Relaxed) != at.as_secs() {
        last_seen_seconds.store(at.as_secs(), Relaxed);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The statements of a service, by shape. Cheap to clone; all clones are one table.
#[derive(Clone, Debug)]
pub struct Statements {
    table: Arc<StatementTable>,
}

#[derive(Debug)]
pub(super) struct StatementTable {
    capacity: usize,
    /// Texts are kept to be explained.
    pub(super) keeps_texts: AtomicBool,
    created: Moment,
    hasher: DefaultHashBuilder,
    parts: [Mutex<HashTable<Arc<Statement>>>; PARTS],
    /// Lock order: a part first, then this.
    by_number: Mutex<HashMap<NonZeroU32, Arc<Statement>>>,
    kept: AtomicUsize,
    next_number: AtomicU32,
    /// Incremented when the table has room again: it may now keep shapes that it did not keep before.
    epoch: AtomicU32,
    /// The table could not keep a statement since it was last read.
    was_full: AtomicBool,
    evicted: AtomicU64,
    /// The minute that the histories of the statements have not sampled yet.
    minute: AtomicU64,
    /// The counts of all queries, kept or not.
    counted: Counted,
    suspicions: Suspicions,
    /// The totals at the last reset of the table, and its time.
    beginning: Mutex<(Totals, SystemTime)>,
    /// When a statement that is not kept was last run, in seconds since the table was created.
    other_last_seen_seconds: AtomicU64,
}

/// How [`Statements::report`] orders the rows, the largest first.
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

/// Which statements [`Statements::report_some`] returns. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatementFilter {
    /// The method of an endpoint that ran it, or `job`.
    pub method: Option<String>,
    /// An endpoint that ran it, or a job.
    pub endpoint: Option<String>,
    /// Its operation.
    pub operation: Option<Operation>,
    /// A part of its shape, in upper or lower case.
    pub text: Option<String>,
}

impl StatementFilter {
    fn wants(&self, statement: &Statement) -> bool {
        let Self {
            method,
            endpoint,
            operation,
            text,
        } = self;
        let shape = &statement.shape;
        let is_part = |text: &String| {
            let part = text.to_ascii_lowercase();
            shape.text.to_ascii_lowercase().contains(&part)
        };
        let is_it = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let ran_it = |name: &String| {
            let (by, of) = name.split_once(' ').unwrap_or(("", name));
            is_it(method, by) && is_it(endpoint, of)
        };
        operation.is_none_or(|operation| operation == shape.operation)
            && text.as_ref().is_none_or(is_part)
            && ((method.is_none() && endpoint.is_none())
                || statement.lock_endpoints().iter().any(ran_it))
    }
}

/// The cost of one statement.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatementReport {
    /// Its number, unique in this process. `None` for `(other)`.
    pub number: Option<NonZeroU32>,
    /// The shape: the text without literals and binds. `(other)` for all statements that are not kept.
    pub statement: String,
    /// The operation.
    pub operation: Operation,
    /// The pool that ran it. `None` outside of any pool, and for `(other)`.
    pub pool: Option<String>,
    /// How often it ended, failures included.
    pub calls: u64,
    /// How often it failed.
    pub errors: u64,
    /// How often it ran outside of any request and job.
    pub unattributed_calls: u64,
    /// The time of all calls, in seconds.
    pub total_seconds: f64,
    /// The mean time of a call, in seconds.
    pub mean_seconds: f64,
    /// The 95th percentile of the time of a call, in seconds; from buckets that are 2 % wide.
    pub p95_seconds: f64,
    /// The first endpoints that ran it, at most 8, with their methods: `GET /data/{item_id}`. Empty for `(other)`.
    pub endpoints: Vec<String>,
    /// When it was first seen. For `(other)`: the start of the service, or the last reset.
    pub first_seen: SystemTime,
    /// When it was last seen, to the second.
    pub last_seen: SystemTime,
}

/// One statement: its cost, and its last hour.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatementDetail {
    /// Its cost since it was first seen, or since the last reset.
    pub report: StatementReport,
    /// Its last 60 minutes, or those since it was first seen. The last one is not over.
    pub history: Vec<StatementMinute>,
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

    fn pool(&self, shape: NonZeroU32) -> Option<String> {
        self.find(shape)?.shape.pool_name()
    }

    fn want_location(&self, shape: NonZeroU32) {
        if let Some(statement) = self.find(shape) {
            statement.is_location_wanted.store(true, Relaxed);
        }
    }
}

/// The part for this hash. It uses the upper bits, because the hash table within uses the lower ones.
fn part_of(hash: u64) -> usize {
    (hash >> 32) as usize % PARTS
}

impl Statements {
    /// A table of at most `capacity` shapes (at least 1). Reads the totals of all queries from `counted`. The connections
    /// report what is suspected of the statements to `suspicions`.
    pub(crate) fn new(capacity: usize, counted: Counted, suspicions: Suspicions) -> Self {
        Self {
            table: Arc::new(StatementTable {
                capacity: capacity.max(1),
                keeps_texts: AtomicBool::new(false),
                created: clock::now(),
                hasher: DefaultHashBuilder::default(),
                parts: Default::default(),
                by_number: Mutex::default(),
                kept: AtomicUsize::new(0),
                next_number: AtomicU32::new(1),
                epoch: AtomicU32::new(0),
                was_full: AtomicBool::new(false),
                evicted: AtomicU64::new(0),
                minute: AtomicU64::new(0),
                beginning: Mutex::new((Totals::default(), SystemTime::now())),
                counted,
                suspicions,
                other_last_seen_seconds: AtomicU64::new(0),
            }),
        }
    }

    pub(super) fn table(&self) -> &StatementTable {
        &self.table
    }

    /// What is suspected of the statements.
    pub fn suspicions(&self) -> &Suspicions {
        &self.table.suspicions
    }

    /// The most statements that the table keeps.
    pub(super) fn capacity(&self) -> usize {
        self.table.capacity
    }

    /// How many statements the table keeps now.
    pub(super) fn kept(&self) -> usize {
        self.table.kept.load(Relaxed)
    }

    /// How many statements were evicted since the start.
    pub(super) fn evicted(&self) -> u64 {
        self.table.evicted.load(Relaxed)
    }

    /// Time since the table was created.
    #[inline]
    pub(super) fn age(&self, now: Moment) -> Duration {
        now.since(self.table.created)
    }

    /// Changes when the table may keep shapes that it did not keep before.
    #[inline]
    pub(super) fn epoch(&self) -> u32 {
        self.table.epoch.load(Relaxed)
    }

    /// The hash of a shape. It is the same for all connections.
    pub(super) fn hash(&self, text: &str, operation: Operation, pool: &str) -> u64 {
        use std::hash::BuildHasher as _;
        self.table.hasher.hash_one((text, operation.index(), pool))
    }

    /// The statement of a shape with this hash, if the table keeps it or has room for it.
    pub(super) fn of_text(
        &self,
        hash: u64,
        text: &str,
        operation: Operation,
        pool: &Arc<str>,
    ) -> Option<Arc<Statement>> {
        self.find_or_keep(hash, (text, operation, pool), || {
            Arc::new(StatementShape {
                hash,
                operation,
                text: text.into(),
                pool: Arc::clone(pool),
                explained: Mutex::default(),
            })
        })
    }

    /// The statement of a shape, if the table keeps it or has room for it.
    pub(super) fn of_shape(&self, shape: &Arc<StatementShape>) -> Option<Arc<Statement>> {
        let identity = (&*shape.text, shape.operation, &*shape.pool);
        self.find_or_keep(shape.hash, identity, || Arc::clone(shape))
    }

    fn find_or_keep(
        &self,
        hash: u64,
        (text, operation, pool): (&str, Operation, &str),
        shape: impl FnOnce() -> Arc<StatementShape>,
    ) -> Option<Arc<Statement>> {
        let table = &*self.table;
        let mut part = lock(&table.parts[part_of(hash)]);
        let is_it = |statement: &Arc<Statement>| {
            let shape = &statement.shape;
            *shape.text == *text && shape.operation == operation && *shape.pool == *pool
        };
        if let Some(known) = part.find(hash, is_it) {
            return Some(Arc::clone(known));
        }
        let has_room = |kept| (kept < table.capacity).then_some(kept + 1);
        if table.kept.fetch_update(Relaxed, Relaxed, has_room).is_err() {
            table.was_full.store(true, Relaxed);
            return None;
        }
        let first_seen_at = self.age(clock::now());
        let number = table.next_number.fetch_add(1, Relaxed);
        let statement = Arc::new(Statement {
            // Wraps around after four billion shapes. The statement that had the number before was evicted long ago.
            number: NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN),
            shape: shape(),
            retired: AtomicBool::new(false),
            is_location_wanted: AtomicBool::new(false),
            seconds: Distribution::default(),
            errors: Counter::new(1),
            unattributed: Counter::new(1),
            first_seen: SystemTime::now(),
            first_seen_at,
            last_seen_seconds: AtomicU64::new(first_seen_at.as_secs()),
            endpoints: Mutex::default(),
            history: Mutex::default(),
            beginning: Mutex::default(),
        });
        part.insert_unique(hash, Arc::clone(&statement), |other| other.shape.hash);
        lock(&table.by_number).insert(statement.number, Arc::clone(&statement));
        if number == 1 {
            self.watch();
        }
        Some(statement)
    }

    /// Notes a run of a statement that is not kept; `at` is the time since the table was created.
    #[inline]
    pub(super) fn ran_other(&self, at: Duration) {
        touch(&self.table.other_last_seen_seconds, at);
    }

    /// Counts a failed statement, kept or not.
    pub(super) fn failed(&self) {
        self.table.counted.failed();
    }

    /// The operation of the statement with this number, if the table keeps it.
    pub(in crate::database) fn operation(&self, number: NonZeroU32) -> Option<Operation> {
        Some(self.find(number)?.shape.operation)
    }

    pub(super) fn find(&self, number: NonZeroU32) -> Option<Arc<Statement>> {
        lock(&self.table.by_number).get(&number).cloned()
    }

    /// The kept statements, in the order in which they were first seen.
    pub(super) fn list(&self) -> Vec<Arc<Statement>> {
        let mut list: Vec<_> = lock(&self.table.by_number).values().cloned().collect();
        list.sort_unstable_by_key(|statement| (statement.first_seen_at, statement.number));
        list
    }

    /// Removes a statement. Its counts are part of the row [`OTHER`] from now on.
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

    /// Evicts statements if the table is full and could not keep one: a tenth of the capacity, from the less costly half,
    /// and only those older than [`MIN_AGE`]. The more costly half always stays.
    pub(super) fn make_room(&self, age: Duration) {
        let table = &*self.table;
        if !table.was_full.load(Relaxed) {
            return;
        }
        let mut evicted = self.list();
        // The bits of non-negative floats have the order of the floats.
        evicted.sort_by_cached_key(|statement| statement.seconds.sum().to_bits());
        evicted.truncate(evicted.len().div_ceil(2));
        evicted.retain(|statement| age.saturating_sub(statement.first_seen_at) >= MIN_AGE);
        evicted.truncate((table.capacity / 10).max(1));
        if evicted.is_empty() {
            return;
        }
        for statement in &evicted {
            self.retire(statement);
            self.ran_other(Duration::from_secs(
                statement.last_seen_seconds.load(Relaxed),
            ));
        }
        table.evicted.fetch_add(evicted.len() as u64, Relaxed);
        table.was_full.store(false, Relaxed);
        table.epoch.fetch_add(1, Relaxed);
    }

    /// When the counts began: at the start of the service, or at the last reset.
    pub fn counted_since(&self) -> SystemTime {
        lock(&self.table.beginning).1
    }

    /// Returns the cost of the first `limit` statements in this order. The queries of statements that are not kept are one
    /// row, `(other)`, which has its place in the order like any statement.
    pub fn report(&self, order: Order, limit: usize) -> Vec<StatementReport> {
        self.report_some(&StatementFilter::default(), order, limit)
    }

    /// Returns the cost of the first `limit` statements that the filter wants, in this order. The row `(other)` is among them
    /// only if the filter wants all statements.
    pub fn report_some(
        &self,
        filter: &StatementFilter,
        order: Order,
        limit: usize,
    ) -> Vec<StatementReport> {
        self.make_room(self.age(clock::now()));
        // Read before the rows, so that a query that ends meanwhile is not counted in `(other)`.
        let (totals, since) = self.totals();
        let mut kept = Totals::default();
        let mut reports = Vec::new();
        for statement in self.list() {
            if !filter.wants(&statement) {
                continue;
            }
            let counts = statement.counts();
            if counts.seconds.count > 0 {
                reports.push(self.report_one(&statement, &counts));
                kept.add(&counts);
            }
        }
        if *filter == StatementFilter::default() {
            reports.extend(self.report_other(&totals.since(&kept), since));
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
        reports
    }

    /// Returns one statement, if the table keeps it.
    pub fn detail(&self, number: NonZeroU32) -> Option<StatementDetail> {
        let age = self.age(clock::now());
        self.sample(age);
        let statement = self.find(number)?;
        let now = SystemTime::now();
        let start = |minute: u64| now - age.saturating_sub(Duration::from_secs(60 * minute));
        let seconds = statement.seconds.snapshot();
        let history = lock(&statement.history).read(&seconds, minute_at(age), start);
        Some(StatementDetail {
            report: self.report_one(&statement, &statement.counts()),
            history,
        })
    }

    /// Adds the minute that is over to the history of each statement. Does nothing until another one is over.
    pub(super) fn sample(&self, age: Duration) {
        let minute = minute_at(age);
        let before = self.table.minute.fetch_max(minute, Relaxed);
        if before >= minute {
            return;
        }
        for statement in self.list() {
            let seconds = statement.seconds.snapshot();
            lock(&statement.history).sample(&seconds, minute - 1);
        }
    }

    /// Lets the watchdog sample the histories, until the table is dropped.
    fn watch(&self) {
        let table = Arc::downgrade(&self.table);
        watchdog::watch(move || {
            let table = Weak::upgrade(&table);
            let statements = table.map(|table| Self { table });
            statements.map_or(Sight::Over, |statements| {
                statements.sample(statements.age(clock::now()));
                Sight::Quiet
            })
        });
    }

    fn report_one(&self, statement: &Statement, counts: &Totals) -> StatementReport {
        let seconds = &counts.seconds;
        StatementReport {
            number: Some(statement.number()),
            statement: statement.shape.text.to_string(),
            operation: statement.shape.operation,
            pool: statement.shape.pool_name(),
            calls: seconds.count,
            errors: counts.errors,
            unattributed_calls: counts.unattributed,
            // The difference of two sums of floats may be slightly negative.
            total_seconds: seconds.sum.max(0.0),
            mean_seconds: seconds.mean().unwrap_or_default().max(0.0),
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
            number: None,
            statement: OTHER.to_owned(),
            operation: Operation::Other,
            pool: None,
            calls: seconds.count,
            errors: other.errors,
            unattributed_calls: other.unattributed,
            // The difference of two sums of floats may be slightly negative.
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

    /// The wall-clock time of a last run. Computed from its age, so that the two clocks do not drift apart.
    fn last_seen(&self, seconds: &AtomicU64) -> SystemTime {
        let last_seen = Duration::from_secs(seconds.load(Relaxed));
        SystemTime::now() - self.age(clock::now()).saturating_sub(last_seen)
    }

    /// The counts of all queries since the last reset, and its time.
    fn totals(&self) -> (Totals, SystemTime) {
        let beginning = lock(&self.table.beginning);
        let totals = self.table.counted.totals();
        (totals.since(&beginning.0), beginning.1)
    }

    /// Starts counting at zero. A statement is reported again when it has run again. Its number, its endpoints and its
    /// history stay, and the metrics keep their counts.
    pub fn reset(&self) {
        let mut beginning = lock(&self.table.beginning);
        for statement in self.list() {
            statement.reset();
        }
        *beginning = (self.table.counted.totals(), SystemTime::now());
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.kept() == 0
    }
}
