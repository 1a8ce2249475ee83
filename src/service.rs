//! The monolith.
