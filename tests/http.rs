//! The HTTP recorder against real connections: each request is counted once, under labels that stay bounded, at the
//! price that was promised.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole, small and not negative"
)]

mod app;
mod bounds;
mod chaos;
mod cost;
mod count;
mod labels;
mod left;
mod names;
mod oracle;
mod outcomes;
mod traces;
