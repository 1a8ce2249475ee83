//! The shutdown: the answers in each stage, no lost request, and a last scrape that counts all requests.

mod http_2;
mod load;
mod stages;
mod tls;
