//! What each statement costs, by its shape: calls, errors, time, and the endpoints that ran it.
//!
//! - `table`: the bounded table that all recorders of a service share, and a statement in it
//! - `known`: how a connection finds the statement of a query
//!
//! Recording goes through handles, without the table's lock. The table is locked when a shape is met for the first time on
//! a connection, when it is first run for an endpoint, when somebody looks, and when it is reset. A shape that had to give
//! way, or was reset, is retired: whoever has a handle of it sees so at its next use, and asks for a new one.
//!
//! No bind gets here, and no literal stays in a shape.

mod known;
mod table;

pub(super) use known::{Known, Place};
pub use table::{Order, StatementReport, Statements};

#[cfg(test)]
mod tests;
