//! What one connection knows of the statements that it has run: from a query's text to the statement, without the table's
//! locks and without reading the text as SQL.

use std::hash::{BuildHasher, BuildHasherDefault};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashMap};

use super::table::{Statement, StatementShape, Statements};
use super::texts::{Hashed, Texts};
use crate::clock::Moment;
use crate::database::sql::{self, Dialect, Operation, Verb};

/// What a connection remembers, in multiples of what the table keeps: texts, and statements with those that gave way.
const MULTIPLE: usize = 2;

/// Where [`ConnectionStatements`] has the statement of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementLookup {
    /// Among its statements. Indices of an earlier generation are no longer valid.
    Known { index: u32, generation: u32 },
    /// Nowhere: the table did not keep it, in this epoch of the table.
    Other { epoch: u32 },
}

/// The statements that a connection has run.
#[derive(Debug)]
pub(crate) struct ConnectionStatements {
    table: Statements,
    dialect: Dialect,
    statements: Vec<KnownStatement>,
    by_shape: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    texts: Texts<TextKind>,
    hasher: DefaultHashBuilder,
    generation: u32,
}

/// A statement that this connection has run.
#[derive(Debug)]
struct KnownStatement {
    shape: Arc<StatementShape>,
    /// The statement, or the epoch in which the table did not keep it.
    statement: Result<Arc<Statement>, u32>,
}

/// What a text is: a query and where its statement is, or control of a transaction.
pub(crate) type TextKind = Option<(Operation, StatementLookup)>;

impl ConnectionStatements {
    pub(crate) fn new(table: Statements, dialect: Dialect) -> Self {
        Self {
            texts: Texts::new(MULTIPLE * table.capacity()),
            table,
            dialect,
            statements: Vec::new(),
            by_shape: HashMap::default(),
            hasher: DefaultHashBuilder::default(),
            generation: 0,
        }
    }

    /// The hash of a text, by which [`of_text`](Self::of_text) knows it.
    ///
    /// Two texts with the same hash of 64 bits are not expected within the life of a service.
    pub(crate) fn hash(&self, sql: &str) -> u64 {
        self.hasher.hash_one(sql)
    }

    /// Looks up the text with this hash. The text must have no binds behind it.
    pub(crate) fn of_text(&mut self, hash: u64, sql: &str) -> TextKind {
        match self.texts.get(hash) {
            Some(None) => return None,
            Some(Some((operation, place))) if self.is_valid(place) => {
                return Some((operation, place));
            }
            _ => {}
        }
        let reading = sql::read(sql, self.dialect);
        let kind = match reading.verb {
            Verb::Query(operation) => Some((operation, self.learn(&reading.shape, operation))),
            Verb::Transaction => None,
        };
        self.texts.insert(hash, kind);
        kind
    }

    fn learn(&mut self, shape: &str, operation: Operation) -> StatementLookup {
        let hash = self.table.hash(shape, operation);
        if let Some(&index) = self.by_shape.get(&hash) {
            return self.place(index);
        }
        let epoch = self.table.epoch();
        let Some(statement) = self.table.of_text(hash, shape, operation) else {
            return StatementLookup::Other { epoch };
        };
        if self.statements.len() >= MULTIPLE * self.table.capacity() {
            // As many statements have given way as the table keeps: these are most of what is known here.
            self.statements.clear();
            self.by_shape.clear();
            self.texts.clear();
            self.generation = self.generation.wrapping_add(1);
        }
        let index = u32::try_from(self.statements.len()).unwrap_or(u32::MAX);
        self.statements.push(KnownStatement {
            shape: Arc::clone(statement.shape()),
            statement: Ok(statement),
        });
        self.by_shape.insert(hash, index);
        self.place(index)
    }

    fn place(&self, index: u32) -> StatementLookup {
        StatementLookup::Known {
            index,
            generation: self.generation,
        }
    }

    /// Whether the place still refers to the same statement.
    #[inline]
    pub(crate) fn is_valid(&self, place: StatementLookup) -> bool {
        match place {
            StatementLookup::Known { generation, .. } => generation == self.generation,
            StatementLookup::Other { epoch } => epoch == self.table.epoch(),
        }
    }

    /// The statement at a place: the present one, if that was retired; none if the table does not keep it.
    #[inline]
    fn at(&mut self, place: StatementLookup) -> Option<&Statement> {
        let StatementLookup::Known { index, generation } = place else {
            return None;
        };
        if generation != self.generation {
            return None;
        }
        let slot = self.statements.get_mut(index as usize)?;
        if !matches!(&slot.statement, Ok(statement) if !statement.is_retired()) {
            slot.renew(&self.table);
        }
        slot.statement.as_deref().ok()
    }

    /// The statement at a place was run, and ended `now`. Returns its shape's number, if the table keeps it.
    #[inline]
    pub(crate) fn ran(
        &mut self,
        place: StatementLookup,
        took: Duration,
        now: Moment,
    ) -> Option<NonZeroU32> {
        let at = self.table.age(now);
        let Some(statement) = self.at(place) else {
            self.table.ran_other(at);
            return None;
        };
        statement.ran(took, at);
        Some(statement.number())
    }

    /// The statement at a place was run outside of any request and job.
    #[cold]
    pub(crate) fn unattributed(&mut self, place: StatementLookup) {
        if let Some(statement) = self.at(place) {
            statement.unattributed();
        }
    }

    /// The statement at a place failed.
    pub(crate) fn failed(&mut self, place: StatementLookup) {
        self.table.failed();
        if let Some(statement) = self.at(place) {
            statement.failed();
        }
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.texts.len(), self.statements.len())
    }
}

impl KnownStatement {
    /// Looks for the statement that takes the place of a retired one, once in each epoch.
    #[cold]
    fn renew(&mut self, table: &Statements) {
        let epoch = table.epoch();
        if self.statement.as_ref().err() != Some(&epoch) {
            self.statement = table.of_shape(&self.shape).ok_or(epoch);
        }
    }
}
