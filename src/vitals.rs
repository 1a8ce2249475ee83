//! The recorders.
