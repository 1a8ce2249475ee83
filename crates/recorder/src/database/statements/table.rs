//! The table of statements that all recorders of a service share.
//!
//! The table keeps a bounded number of shapes, of each pool its own. A statement is found by the hash of its shape, in one of
//! several parts with a lock each; `ConnectionStatements` avoids even that for shapes that a connection has run before. A full
//! table keeps no further shape until it has evicted some, which it does when it is read: by a scrape, a report or the live
//! page. It evicts the least costly.
//!
//! The table does not count queries of statements that it does not keep. The row [`OTHER`] is the difference between the
//! families of all queries and the rows of the kept statements, so that the rows always add up to the families.
//!
//! A [`Statement`] is in `statement`, and the reports are in `report`.

mod report;
mod statement;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use vitals_registry::{Counter, Distribution};

use super::history::minute_at;
use super::total::{Counted, Totals};
use crate::clock::{self, Moment};
use crate::context::StatementShapes;
use crate::database::sql::Operation;
use crate::suspicions::Suspicions;
use crate::watchdog::{self, Sight};

pub use report::{Order, StatementDetail, StatementFilter, StatementReport};
use statement::touch;
pub(super) use statement::{Statement, StatementShape};

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

/// Takes a lock, also after a panic.
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

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.kept() == 0
    }
}
