//! The shutdown: the answers in each stage, no lost request, and a last scrape that counts all requests.

mod load;
mod stages;
