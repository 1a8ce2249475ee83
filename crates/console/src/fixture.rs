//! Ops endpoints over recorders without traffic, for unit tests.

use std::{sync::Arc, time::Duration};

use vitals_recorder::{
    http::{HttpFamilies, OptionalFamilies, RecordingSettings, Renaming, RequestRecorder},
    memory::AnswerMemory,
    naming::{LATENCY_BUCKETS, Naming},
    ops_endpoints::OpsEndpoints,
    runtime::Runtime,
};
use vitals_registry::Registry;

use crate::{ops::Ops, settings::OpsSettings, watched::Watched};

/// A registry, and the recorders of a service without a database.
pub(crate) fn recorders() -> (Registry, Watched) {
    let mut registry = Registry::builder(|| Duration::from_secs(1));
    let runtime = Runtime::declare(&mut registry, &LATENCY_BUCKETS);
    let families = HttpFamilies::declare(
        &mut registry,
        Naming::Vitals,
        Renaming::default(),
        OptionalFamilies::default(),
        &LATENCY_BUCKETS,
    );
    let endpoints = OpsEndpoints::default();
    let settings = RecordingSettings::default();
    let recorder = RequestRecorder::new(families, None, endpoints.clone(), settings);
    let watched = Watched {
        http: Arc::new(recorder),
        endpoints,
        database: None,
        runtime,
        memory: AnswerMemory::default(),
    };
    (registry.build().unwrap(), watched)
}

/// The ops endpoints over these recorders.
pub(crate) fn ops(settings: OpsSettings) -> Ops {
    let (registry, watched) = recorders();
    Ops::new(&registry, settings, watched)
}
