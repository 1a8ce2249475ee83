//! The way from a signal to the end: what is answered when, that nothing is lost, and that the last scrape has it all.

mod load;
mod stages;
