//! What each statement costs, by its shape: calls, errors, time, and the endpoints that ran it.
//!
//! - `table`: the bounded table that all recorders of a service share, and a statement in it
//! - `known`, `texts`: how a connection finds the statement of a query
//! - `total`: what all queries have counted, whether their statements are kept or not
//! - `families`: how many statements are kept, and how many gave way
//!
//! Recording goes through handles, without a lock. A part of the table is locked when a connection meets a shape for the
//! first time, or one that the table did not keep, once in a while. A shape that had to give way, or was reset, is retired:
//! the owner of a handle notices at its next use, and gets a new one.
//!
//! No bind gets here, and no literal stays in a shape.

mod families;
mod known;
mod table;
mod texts;
mod total;

pub use families::Fullness;
#[cfg(feature = "diesel")]
pub(super) use known::{Kind, Known, Place};
pub(super) use table::DEFAULT_CAPACITY;
pub use table::{Order, StatementReport, Statements};
pub(super) use total::Counted;

#[cfg(test)]
mod tests;
