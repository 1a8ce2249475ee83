//! The cost of each statement, by its shape: calls, errors, time, and the endpoints that ran it.
//!
//! - `table`: the bounded table that all recorders of a service share, a statement in it, and the reports of statements
//! - `connection_statements`, `texts`: how a connection finds the statement of a query
//! - `explained`: the texts that may be explained
//! - `history`: the last hour of a statement, minute by minute
//! - `total`: the counts of all queries, whether their statements are kept or not
//! - `families`: how many statements are kept, and how many were evicted
//!
//! Recording goes through handles, without a lock. A connection locks a part of the table when it meets a shape for the
//! first time, and once in a while for a shape that the table did not keep. A statement that was evicted is retired: the
//! owner of a handle notices that at its next use and gets a new handle.
//!
//! No bind value gets here, and no shape contains a literal.

pub(super) mod connection_statements;
mod explained;
mod families;
mod history;
mod table;
mod texts;
mod total;

pub(super) use explained::TextToExplain;
pub use families::Fullness;
pub use history::StatementMinute;
pub(super) use table::DEFAULT_CAPACITY;
pub use table::{Order, StatementDetail, StatementFilter, StatementReport, Statements};
pub(super) use total::Counted;

#[cfg(test)]
mod tests;
