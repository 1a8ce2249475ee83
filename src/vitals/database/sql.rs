//! The one reader of SQL: what a statement does, and its text without values.
//!
//! Contains [`read`], which returns the [`Verb`] and the shape of a statement in one pass, and [`verb()`] for the verb
//! alone. The [`Dialect`] of the connection decides which parts of a text are values. Nothing here understands more of SQL
//! than that, and no part keeps a value.

mod dialect;
mod lexer;
mod shape;
pub mod verb;

pub use dialect::Dialect;
pub use verb::{Operation, Verb, verb};

/// What one statement says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What the statement does.
    pub verb: Verb,
    /// Its text without literals, binds and comments; at most 4 KiB.
    pub shape: String,
}

/// Reads a statement of a dialect.
pub fn read(sql: &str, _dialect: Dialect) -> Reading {
    Reading {
        verb: verb(sql),
        shape: shape::shape(sql),
    }
}
