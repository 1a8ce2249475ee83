//! What one connection knows of the statements that it has run: from a query's text to the statement, without the table's
//! lock and without a shape being made.

use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashMap};

use super::table::{Statement, Statements};
use crate::vitals::clock::Moment;
use crate::vitals::database::sql::{self, Dialect, Operation, Verb};

/// Texts whose statements are remembered; statements put together by hand may have a text for each call.
const TEXTS: usize = 512;

/// Statements that are remembered. More than the table has: types and texts of retired ones are looked up again.
const STATEMENTS: usize = 512;

/// Where [`Known`] has a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    index: u32,
    /// Places of an earlier time are no longer valid.
    generation: u32,
}

/// The statements that a connection has run.
#[derive(Debug)]
pub(crate) struct Known {
    table: Statements,
    dialect: Dialect,
    statements: Vec<Arc<Statement>>,
    texts: HashMap<u64, Kind>,
    hasher: DefaultHashBuilder,
    generation: u32,
}

/// What a text is: a query and where its statement is, or control of a transaction.
type Kind = Option<(Operation, Place)>;

impl Known {
    pub(crate) fn new(table: Statements, dialect: Dialect) -> Self {
        Self {
            table,
            dialect,
            statements: Vec::new(),
            texts: HashMap::default(),
            hasher: DefaultHashBuilder::default(),
            generation: 0,
        }
    }

    /// What a text is: nothing where it only controls a transaction. It must have no binds behind it.
    pub(crate) fn of_text(&mut self, sql: &str) -> Kind {
        // Two texts with one hash of 64 bits are not to be expected within the life of a service.
        let hash = self.hasher.hash_one(sql);
        match self.texts.get(&hash) {
            Some(None) => return None,
            Some(Some((operation, place))) if self.is_valid(*place) => {
                return Some((*operation, *place));
            }
            _ => {}
        }
        if self.texts.len() >= TEXTS {
            self.texts.clear();
        }
        let reading = sql::read(sql, self.dialect);
        let kind = match reading.verb {
            Verb::Query(operation) => Some((operation, self.learn(&reading.shape, operation))),
            Verb::Transaction => None,
        };
        self.texts.insert(hash, kind);
        kind
    }

    fn learn(&mut self, shape: &str, operation: Operation) -> Place {
        let statement = self.table.of_shape(shape, operation);
        let known = self
            .statements
            .iter()
            .position(|known| Arc::ptr_eq(known, &statement));
        let index = known.unwrap_or_else(|| {
            if self.statements.len() >= STATEMENTS {
                self.statements.clear();
                self.generation = self.generation.wrapping_add(1);
            }
            self.statements.push(statement);
            self.statements.len() - 1
        });
        Place {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            generation: self.generation,
        }
    }

    /// Whether the place still has its statement.
    #[inline]
    pub(crate) fn is_valid(&self, place: Place) -> bool {
        place.generation == self.generation
    }

    /// The statement at a place: the present one, if that was retired.
    #[inline]
    fn at(&mut self, place: Place) -> Option<&Statement> {
        if !self.is_valid(place) {
            return None;
        }
        let statement = self.statements.get_mut(place.index as usize)?;
        if statement.is_retired() {
            *statement = self.table.renew(statement);
        }
        Some(statement)
    }

    /// The statement at a place was run, and ended `now`. The answer is its shape's number.
    #[inline]
    pub(crate) fn ran(&mut self, place: Place, took: Duration, now: Moment) -> Option<NonZeroU32> {
        let at = self.table.age(now);
        let statement = self.at(place)?;
        statement.ran(took, at);
        Some(statement.shape())
    }

    /// The statement at a place was run outside of any request and job.
    #[cold]
    pub(crate) fn unattributed(&mut self, place: Place) {
        if let Some(statement) = self.at(place) {
            statement.unattributed();
        }
    }

    /// The statement at a place failed.
    pub(crate) fn failed(&mut self, place: Place) {
        if let Some(statement) = self.at(place) {
            statement.failed();
        }
    }
}
