//! The recorders that the ops endpoints read.

use std::sync::Arc;

use vitals_recorder::{
    database::Database, http::RequestRecorder, memory::AnswerMemory, ops_endpoints::OpsEndpoints,
    runtime::Runtime,
};

use crate::dashboard::SampledSources;

/// The recorders that the ops endpoints read.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Records requests.
    pub http: Arc<RequestRecorder>,
    /// The patterns under which the ops endpoints are mounted, learnt from their requests.
    pub endpoints: OpsEndpoints,
    /// Records queries and pools; `None` in a service without a database.
    pub database: Option<Database>,
    /// Records event loops.
    pub runtime: Runtime,
    /// The memory of bodies that wait for their clients.
    pub memory: AnswerMemory,
}

impl Watched {
    /// The families that the live page samples.
    pub(crate) fn sources(&self) -> SampledSources {
        let requests = self.http.families();
        let database_use = requests.database.as_ref();
        let queries = self.database.as_ref().map(Database::families);
        SampledSources {
            requests: Some(requests.requests.clone()),
            durations: Some(requests.duration.clone()),
            route_queries: database_use.map(|database| database.queries.clone()),
            route_database: database_use.map(|database| database.seconds.clone()),
            n_plus_one: requests.n_plus_one.clone(),
            route_loop: Some(requests.loop_seconds.clone()),
            stalls: Some(requests.loop_stalls.clone()),
            in_progress: Some(requests.in_progress.clone()),
            lag: Some(self.runtime.lag_seconds().clone()),
            queries: queries.map(|families| families.queries.clone()),
            query_durations: queries.map(|families| families.query_seconds.clone()),
            waiters: queries.map(|families| families.pool_waiters.clone()),
            pools: (self.database.as_ref()).map(|database| database.levels().clone()),
        }
    }
}
