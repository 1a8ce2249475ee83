//! The recorders.

pub mod methods;
pub mod problem;
