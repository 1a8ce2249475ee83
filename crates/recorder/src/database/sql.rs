//! The only reader of SQL. It returns a statement's verb, and its text without values.
//!
//! Contains [`read`], which returns the [`Verb`] and the shape of a statement in one pass, and [`verb()`] for the verb
//! alone. Nothing here understands more of SQL than that, and no part keeps a value.
//!
//! - `dialect`: the dialects, and how a connection's dialect is found
//! - `keyword`, `lexer`: a text as tokens
//! - `verb`: what the tokens do
//! - `names`: which of them are names, and which are values
//! - `shape`: the text without values

mod dialect;
mod keyword;
mod lexer;
mod names;
mod shape;
pub mod verb;

use lexer::Lexer;
use shape::Shaper;
use verb::Finder;

pub use dialect::Dialect;
pub use verb::{Operation, Verb, verb};

/// What one statement says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementReading {
    /// The statement's verb.
    pub verb: Verb,
    /// Its text without literals, binds and comments; at most 4 KiB.
    pub shape: String,
}

/// Reads a statement of a dialect, in one pass and with a few KiB of memory, however long it is.
pub fn read(sql: &str, dialect: Dialect) -> StatementReading {
    let mut lexer = Lexer::new(sql, dialect);
    let mut finder = Finder::default();
    let mut shaper = Shaper::new(dialect, sql.len());
    while let Some(token) = lexer.next() {
        let is_name = finder.expects_name();
        finder.push(&token);
        if lexer.is_unsure() {
            shaper.cut();
        }
        shaper.push(token, lexer.next_byte(), is_name);
    }
    if lexer.is_unsure() {
        shaper.cut();
    }
    StatementReading {
        verb: finder.finish(),
        shape: shaper.finish(lexer.is_misread()),
    }
}

#[cfg(test)]
mod tests;
