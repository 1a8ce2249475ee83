//! The statements that one connection has run. Finds the statement of a query by its text, without the locks of the table
//! and without reading the text as SQL.

use std::hash::{BuildHasher, BuildHasherDefault};
use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};
use vitals_registry::DistributionWriter;

use super::table::{OTHER, Statement, StatementShape, Statements};
use super::texts::{Hashed, Texts};
use crate::clock::Moment;
use crate::database::sql::{self, Dialect, Operation, TransactionEffect, Verb};
use crate::suspicions::Suspicions;

/// How many texts, and how many statements (retired ones included), a connection remembers: this many times the capacity of
/// the table.
const MULTIPLE: usize = 2;

/// After this many runs on one connection, a statement is one that it runs often.
const OFTEN: u32 = 500;

/// The most statements of a connection that have a [writer](KnownStatement::writer), of about a kilobyte each.
const MOST_WRITERS: u32 = 8;

/// Where [`ConnectionStatements`] finds the statement of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementLookup {
    /// At this index. Indices of an earlier generation are no longer valid.
    Known { index: u32, generation: u32 },
    /// Nowhere: the table did not keep the statement in this epoch.
    Other { epoch: u32 },
}

/// The statements that a connection has run.
#[derive(Debug)]
pub(crate) struct ConnectionStatements {
    table: Statements,
    suspicions: Suspicions,
    dialect: Dialect,
    /// The pool of the connection; empty outside of any pool.
    pool: Arc<str>,
    statements: Vec<KnownStatement>,
    by_shape: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    texts: Texts<(TextKind, TextEffect)>,
    hasher: DefaultHashBuilder,
    generation: u32,
    /// The number of statements that have a writer.
    writers: u32,
}

/// A statement that this connection has run.
#[derive(Debug)]
struct KnownStatement {
    shape: Arc<StatementShape>,
    /// The statement, or the epoch in which the table did not keep it.
    statement: Result<Arc<Statement>, u32>,
    /// Records its times by plain stores. A few statements that the connection runs often have one.
    writer: Option<DistributionWriter>,
    /// Its runs, as long as it has no writer and may get one.
    runs: u32,
}

/// What a text is: a query of an operation and a statement, or `None` for control of a transaction.
pub(crate) type TextKind = Option<(Operation, StatementLookup)>;

/// What a text does that neither its verb nor Diesel announces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TextEffect {
    /// What it does to the transaction of its connection.
    pub(crate) transaction: TransactionEffect,
    /// It may write although its verb reads.
    pub(crate) writes: bool,
}

impl ConnectionStatements {
    pub(crate) fn new(table: Statements, dialect: Dialect, pool: Arc<str>) -> Self {
        Self {
            texts: Texts::new(MULTIPLE * table.capacity()),
            suspicions: table.suspicions().clone(),
            table,
            dialect,
            pool,
            statements: Vec::new(),
            by_shape: HashMap::default(),
            hasher: DefaultHashBuilder::default(),
            generation: 0,
            writers: 0,
        }
    }

    /// The hash of a text, for [`of_text`](Self::of_text).
    ///
    /// Two texts with the same hash of 64 bits are not expected while a service runs.
    pub(crate) fn hash(&self, sql: &str) -> u64 {
        self.hasher.hash_one(sql)
    }

    /// Whether this connection has looked up the text with this hash.
    pub(crate) fn knows(&self, hash: u64) -> bool {
        self.texts.contains(hash)
    }

    /// Looks up the text with this hash: what it is, and what it does beyond that. The text must not contain Diesel's list
    /// of binds.
    pub(crate) fn of_text(&mut self, hash: u64, sql: &str) -> (TextKind, TextEffect) {
        if let Some(known @ (kind, _)) = self.texts.get(hash)
            && kind.is_none_or(|(_, lookup)| self.is_valid(lookup))
        {
            return known;
        }
        let reading = sql::read(sql, self.dialect);
        let kind = match reading.verb {
            Verb::Query(operation) => {
                let lookup = self.learn(&reading.shape, operation);
                self.keep_text(lookup, sql);
                Some((operation, lookup))
            }
            Verb::Transaction => None,
        };
        let effect = TextEffect {
            transaction: reading.transaction,
            writes: reading.writes,
        };
        let known = (kind, effect);
        self.texts.insert(hash, known);
        known
    }

    fn learn(&mut self, shape: &str, operation: Operation) -> StatementLookup {
        let hash = self.table.hash(shape, operation, &self.pool);
        if let Some(&index) = self.by_shape.get(&hash) {
            return self.lookup(index);
        }
        let epoch = self.table.epoch();
        let Some(statement) = self.table.of_text(hash, shape, operation, &self.pool) else {
            return StatementLookup::Other { epoch };
        };
        if self.statements.len() >= MULTIPLE * self.table.capacity() {
            // At least half of these statements are retired.
            self.statements.clear();
            self.by_shape.clear();
            self.texts.clear();
            self.writers = 0;
            self.generation = self.generation.wrapping_add(1);
        }
        let index = u32::try_from(self.statements.len()).unwrap_or(u32::MAX);
        self.statements.push(KnownStatement {
            shape: Arc::clone(statement.shape()),
            statement: Ok(statement),
            writer: None,
            runs: 0,
        });
        self.by_shape.insert(hash, index);
        self.lookup(index)
    }

    /// Keeps a text to be explained, the first time that this connection runs it.
    fn keep_text(&mut self, lookup: StatementLookup, sql: &str) {
        if self.table.keeps_texts() {
            let dialect = self.dialect;
            if let Some(statement) = self.at(lookup) {
                statement.keep_text(sql, dialect);
            }
        }
    }

    fn lookup(&self, index: u32) -> StatementLookup {
        StatementLookup::Known {
            index,
            generation: self.generation,
        }
    }

    /// Whether the lookup still refers to the same statement.
    #[inline]
    pub(crate) fn is_valid(&self, lookup: StatementLookup) -> bool {
        match lookup {
            StatementLookup::Known { generation, .. } => generation == self.generation,
            StatementLookup::Other { epoch } => epoch == self.table.epoch(),
        }
    }

    /// The slot of a lookup, and the number of writers. A retired statement is replaced by its successor.
    #[inline]
    fn slot(&mut self, lookup: StatementLookup) -> Option<(&mut KnownStatement, &mut u32)> {
        let StatementLookup::Known { index, generation } = lookup else {
            return None;
        };
        if generation != self.generation {
            return None;
        }
        let slot = self.statements.get_mut(index as usize)?;
        if !matches!(&slot.statement, Ok(statement) if !statement.is_retired()) {
            slot.renew(&self.table, &mut self.writers);
        }
        Some((slot, &mut self.writers))
    }

    /// The statement of a lookup; `None` if the table does not keep it.
    #[inline]
    fn at(&mut self, lookup: StatementLookup) -> Option<&Statement> {
        self.slot(lookup)?.0.statement.as_deref().ok()
    }

    /// What is suspected of the statements.
    #[inline]
    pub(crate) fn suspicions(&self) -> &Suspicions {
        &self.suspicions
    }

    /// The statement's shape and its pool. The shape is `(other)` if the table does not keep it.
    pub(crate) fn describe(&mut self, lookup: StatementLookup) -> (String, String) {
        match self.at(lookup) {
            Some(statement) => statement.describe(),
            None => (OTHER.to_owned(), self.pool.to_string()),
        }
    }

    /// The statement's number, if the table keeps it.
    #[inline]
    pub(crate) fn number(&mut self, lookup: StatementLookup) -> Option<NonZeroU32> {
        self.at(lookup).map(Statement::number)
    }

    /// Counts a run of a statement that ended `now`. Returns the statement's number, if the table keeps it, and whether the
    /// stack of the run is to be captured.
    #[inline]
    pub(crate) fn ran(
        &mut self,
        lookup: StatementLookup,
        seconds: f64,
        now: Moment,
    ) -> (Option<NonZeroU32>, bool) {
        let at = self.table.age(now);
        if let Some((slot, writers)) = self.slot(lookup)
            && let Ok(statement) = &slot.statement
        {
            let is_location_wanted = statement.ran(slot.writer.as_ref(), seconds, at);
            let number = statement.number();
            if slot.runs <= OFTEN {
                slot.count_run(writers);
            }
            return (Some(number), is_location_wanted);
        }
        self.table.ran_other(at);
        (None, false)
    }

    /// Notes that the stack of a run was captured.
    pub(crate) fn located(&mut self, lookup: StatementLookup) {
        if let Some(statement) = self.at(lookup) {
            statement.located();
        }
    }

    /// Counts a run outside of any request and job.
    #[cold]
    pub(crate) fn unattributed(&mut self, lookup: StatementLookup) {
        if let Some(statement) = self.at(lookup) {
            statement.unattributed();
        }
    }

    /// Counts a failed run.
    pub(crate) fn failed(&mut self, lookup: StatementLookup) {
        self.table.failed();
        if let Some(statement) = self.at(lookup) {
            statement.failed();
        }
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.texts.len(), self.statements.len())
    }
}

impl KnownStatement {
    /// Counts a run, until the statement has a writer or others have all.
    fn count_run(&mut self, writers: &mut u32) {
        self.runs += 1;
        if self.runs > OFTEN && *writers < MOST_WRITERS {
            self.writer = self.statement.as_ref().ok().map(|it| it.writer());
            *writers += 1;
        }
    }

    /// Looks for the successor of a retired statement, once in each epoch of the table.
    #[cold]
    fn renew(&mut self, table: &Statements, writers: &mut u32) {
        if self.writer.take().is_some() {
            *writers -= 1;
        }
        self.runs = 0;
        let epoch = table.epoch();
        if self.statement.as_ref().err() != Some(&epoch) {
            self.statement = table.of_shape(&self.shape).ok_or(epoch);
        }
    }
}
