//! The HTTP recorder: one record per request, opened by the middleware and settled exactly once.
//!
//! - `middleware`: the Actix side, from request to response or error
//! - `record`: what is counted, and when
//! - `body`, `failure`: how a record travels with a response, or with an error
//! - `notable`: the slowest requests, and the failed ones
//! - `repetition`: when a request's queries look like a loop
//! - `server_timing`: the header that tells a browser where the time went
//! - `trace`: which trace a request belongs to
//! - `connections`: how many connections there are, and what becomes of each
//! - `labels`, `renaming`, `series`, `families`: what a request is called, and where that is counted

mod body;
mod connections;
mod failure;
mod families;
mod labels;
mod middleware;
mod notable;
mod record;
mod renaming;
mod repetition;
mod series;
mod server_timing;
mod trace;

pub use body::MonitoredBody;
pub use connections::{ConnectionOutcome, Connections, OpenConnection};
pub use labels::{OTHER_METHOD, UNMATCHED};
pub use middleware::{Monitor, MonitorFuture, MonitorService, Stream};
pub use notable::{NotableRequest, NotableRequests};
pub use trace::TraceParent;

pub(crate) use connections::Families as ConnectionFamilies;
pub(crate) use families::Families;
pub(crate) use record::{Recorder, Settings};
pub(crate) use renaming::{Rename, Renaming};
