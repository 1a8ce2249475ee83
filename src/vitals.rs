//! The recorders.

pub mod allocator;
pub mod database;
pub mod process;
mod reading;
pub mod runtime;
