//! The HTTP recorder against real connections: each request is counted once, under labels that stay bounded, at the
//! price that was promised.

mod app;
mod chaos;
mod cost;
mod count;
mod labels;
mod oracle;
mod outcomes;
mod traces;
