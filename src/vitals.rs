//! The recorders.

pub mod allocator;
pub mod database;
pub mod process;
pub mod runtime;
mod reading;
