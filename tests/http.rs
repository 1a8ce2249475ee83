//! The HTTP recorder on real connections: it counts each request once, keeps its labels bounded, and costs no more than
//! promised.

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
mod loop_time;
mod names;
mod oracle;
mod outcomes;
mod traces;
