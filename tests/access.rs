//! Who may connect to the operators' endpoints and enter them, and over what; and the files that tell, as they change.
//!
//! Which web configurations are taken and refused is tested beside the code, in a table.

mod authority;
mod clients;
mod credentials;
mod description;
mod flood;
mod headers;
mod operators;
mod origin;
mod promtool;
mod rate_limit;
mod reload;
mod scrape;
mod tls;
