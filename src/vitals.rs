//! The recorders.

pub mod problem;
