//! The HTTP recorder: one record per request, opened by the middleware and settled exactly once.
//!
//! It has three rooms:
//!
//! - `record`: one request from its parsed head until it is settled
//! - `series`: what a request is called, and the series that count it
//! - `insight`: what is known of single requests: their timelines, notable ones, their trace
//!
//! Beside the rooms:
//!
//! - `recorder`, `worker`: what all workers record into, and what one worker records with
//! - `routes`: the endpoint of a request that left no answer
//! - `endpoint_guess`: the endpoint of a request that is not answered yet
//! - `loop_watch`: polls that keep an event loop busy for too long
//! - `block`: blocking work for the current request
//! - `connections`: how many connections there are, and how each ended

mod block;
mod connections;
mod endpoint_guess;
mod insight;
mod loop_watch;
mod record;
mod recorder;
mod routes;
mod series;
mod worker;

pub use block::block;
pub use connections::{ConnectionMetrics, ConnectionOutcome, OpenConnection};
pub(crate) use insight::causes::names_of;
pub use insight::{
    causes::{FailureCause, FailureGroup, FailureGroups, FailureKind},
    kept::{
        Comparison, KEPT_REQUESTS, KeepReason, KeptFilter, KeptId, KeptRequests,
        MOST_KEPT_REQUESTS, NotAnId,
    },
    notable::{NotableRequest, NotableRequests},
    timeline::{Explanation, KeptEnding, KeptRequest, LeftOutPhases, Phase, PhaseKind},
    trace::TraceParent,
};
pub use loop_watch::NO_STACK;
pub use record::{
    body::MonitoredBody,
    middleware::{Monitor, MonitorFuture, MonitorService, Stream},
};
pub use series::labels::{OTHER_METHOD, UNMATCHED};

pub use connections::ConnectionFamilies;
pub use recorder::{RecordingSettings, RequestRecorder};
pub use series::{
    families::{HttpFamilies, OptionalFamilies},
    renaming::{Rename, Renaming},
};
