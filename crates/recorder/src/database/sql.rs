//! The only reader of SQL. It returns the verb of a statement, and its text without values.
//!
//! Contains [`read`], which returns the [`Verb`] and the shape of a statement in one pass, and [`verb()`] for the verb
//! alone. It understands no more of SQL than that, and no part keeps a value.
//!
//! One lexer produces the tokens, and each of the other parts is a state machine over them:
//!
//! - `dialect`: the dialects, and how the dialect of a connection is found
//! - `keyword`, `lexer`: splits a text into tokens
//! - `verb`: finds the verb
//! - `transaction`: finds what a text does to the transaction of its connection
//! - `writes`: finds whether a text writes although its verb does not
//! - `names`: decides which tokens are names, and which are values
//! - `shape`: writes the text without values
//! - `filters`: finds the columns that are compared with values

mod dialect;
pub(super) mod filters;
mod keyword;
mod lexer;
mod names;
mod shape;
mod transaction;
pub mod verb;
mod writes;

use lexer::Lexer;
use shape::Shaper;
use transaction::EffectFinder;
use verb::Finder;
use writes::WriteFinder;

pub use dialect::Dialect;
pub use transaction::TransactionEffect;
pub use verb::{Operation, Verb, verb};

/// The verb and the shape of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementReading {
    /// The verb of the statement.
    pub verb: Verb,
    /// What it does to the transaction of its connection.
    pub transaction: TransactionEffect,
    /// Whether it may write although its verb reads or controls a transaction: a data-modifying `WITH`, a `SELECT … INTO`, a
    /// batch, `PREPARE TRANSACTION`, or a text that servers may read in two ways. True where in doubt.
    pub writes: bool,
    /// The text without literals, binds and comments; at most 4 KiB.
    pub shape: String,
}

/// Reads a statement of a dialect, in one pass and with a few KiB of memory for a text of any length.
pub fn read(sql: &str, dialect: Dialect) -> StatementReading {
    let mut lexer = Lexer::new(sql, dialect);
    let mut finder = Finder::default();
    let mut effect = EffectFinder::default();
    let mut writes = WriteFinder::default();
    let mut shaper = Shaper::new(dialect, sql.len());
    while let Some(token) = lexer.next() {
        let is_name = finder.expects_name();
        finder.push(&token);
        effect.push(&token);
        writes.push(&token);
        if lexer.is_unsure() {
            shaper.cut();
        }
        shaper.push(token, lexer.next_byte(), is_name);
    }
    if lexer.is_unsure() {
        shaper.cut();
    }
    let verb = finder.finish();
    let may_hide_a_write = matches!(verb, Verb::Query(Operation::Select) | Verb::Transaction);
    StatementReading {
        verb,
        transaction: effect.finish(),
        writes: may_hide_a_write && (writes.finish() || lexer.is_unsure() || lexer.is_misread()),
        shape: shaper.finish(lexer.is_misread()),
    }
}

/// The longest text that is kept to be explained, in bytes.
const LONGEST_EXPLAINED: usize = 4 * 1024;

/// Returns a statement without its trailing semicolon if it may be kept and explained: one `SELECT`, `INSERT`, `UPDATE` or
/// `DELETE` of at most 4 KiB, in which every value is a placeholder, and without a comment.
pub(super) fn explainable(
    sql: &str,
    dialect: Dialect,
    operation: Operation,
) -> Result<&str, Unexplainable> {
    let sql =
        sql.trim_matches(|character: char| character == ';' || character.is_ascii_whitespace());
    if operation == Operation::Other {
        return Err(Unexplainable::Operation);
    }
    if sql.len() > LONGEST_EXPLAINED {
        return Err(Unexplainable::TooLong);
    }
    // SQLite ends the text at the first NUL.
    if sql.contains('\0') || !Lexer::new(sql, dialect).has_only_placeholders() {
        return Err(Unexplainable::Literals);
    }
    Ok(sql)
}

/// Why a statement is never explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unexplainable {
    /// It is no `SELECT`, `INSERT`, `UPDATE` or `DELETE`.
    Operation,
    /// Its text is longer than 4 KiB.
    TooLong,
    /// Its text has literals or comments, or may have.
    Literals,
}

impl Unexplainable {
    /// The reason in a few words.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Operation => "only SELECT, INSERT, UPDATE and DELETE are explained",
            Self::TooLong => "texts of more than 4 KiB are not explained",
            Self::Literals => {
                "its text has literals, comments or several statements, and only texts whose values are all placeholders are explained"
            }
        }
    }
}

#[cfg(test)]
mod tests;
