//! The HTTP recorder: one record per request, opened by the middleware and settled exactly once.
//!
//! - `middleware`: the Actix side, from request to response or error
//! - `record`, `answer`: what is counted of a request, and when; before the head of its answer is known, and after.
//!   `progress` is what both have
//! - `body`, `failure`: how these travel with a response, or with an error
//! - `recorder`, `worker`: what is recorded into, by all workers and by one
//! - `notable`: the slowest requests, and the failed ones
//! - `server_timing`: the header that tells a browser where the time went
//! - `trace`: which trace a request belongs to
//! - `block`: blocking work for the current request
//! - `connections`: how many connections there are, and what becomes of each
//! - `labels`, `renaming`, `shape`, `series`, `families`: what a request is called, and where that is counted
//! - `routes`, `resources`: the name of a request that is gone before it has reported its route

mod answer;
mod block;
mod body;
mod connections;
mod failure;
mod families;
mod labels;
mod middleware;
mod notable;
mod progress;
mod record;
mod recorder;
mod renaming;
mod resources;
mod routes;
mod series;
mod server_timing;
mod shape;
mod trace;
mod worker;

pub use block::block;
pub use body::MonitoredBody;
pub use connections::{ConnectionOutcome, Connections, OpenConnection};
pub use labels::{OTHER_METHOD, UNMATCHED};
pub use middleware::{Monitor, MonitorFuture, MonitorService, Stream};
pub use notable::{NotableRequest, NotableRequests};
pub use trace::TraceParent;

pub use connections::Families as ConnectionFamilies;
pub use families::{Families, Wanted};
pub use recorder::{Recorder, Settings};
pub use renaming::{Rename, Renaming};
