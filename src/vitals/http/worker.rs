//! One worker thread's side of the recorder: its writers, the series it knows, and the application that it serves.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
};

use actix_web::{
    HttpRequest,
    dev::{ResourceMap, ServiceRequest},
};

use super::{
    families::Families,
    labels::{UNMATCHED, pattern_label},
    recorder::Recorder,
    series::{Origin, Outcome, Series, SeriesCache},
};
use crate::{registry::GaugeWriter, vitals::naming::Naming};

/// What one worker records with. Shared by the records of its requests, which never leave its thread.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) recorder: Arc<Recorder>,
    in_progress: InProgress,
    series: SeriesCache,
    application: OnceCell<Application>,
}

/// What the first request tells of the application.
#[derive(Debug)]
struct Application {
    resources: ResourceMap,
    /// An application serves one listener: all its requests come by one scheme.
    scheme: &'static str,
}

/// The gauges of the requests being served.
#[derive(Debug)]
enum InProgress {
    All(GaugeWriter),
    /// Those that were needed so far, by method.
    ByMethod(RefCell<Vec<(&'static str, GaugeWriter)>>),
}

impl InProgress {
    fn new(families: &Families) -> Self {
        match families.naming {
            Naming::Vitals => Self::All(families.in_progress("", "")),
            Naming::OpenTelemetry => Self::ByMethod(RefCell::default()),
        }
    }
}

impl Worker {
    pub(super) fn new(recorder: Arc<Recorder>) -> Self {
        Self {
            in_progress: InProgress::new(&recorder.families),
            recorder,
            series: SeriesCache::default(),
            application: OnceCell::new(),
        }
    }

    /// Learns what there is to know of the application, from its first request.
    #[inline]
    pub(super) fn meet(&self, request: &ServiceRequest) {
        self.application.get_or_init(|| Application {
            resources: request.resource_map().clone(),
            scheme: if request.app_config().secure() {
                "https"
            } else {
                "http"
            },
        });
    }

    /// One more request is in progress.
    #[inline]
    pub(super) fn enter(&self, method: &'static str) {
        self.with_in_progress(method, GaugeWriter::inc);
    }

    /// One request less is in progress.
    #[inline]
    pub(super) fn leave(&self, method: &'static str) {
        self.with_in_progress(method, GaugeWriter::dec);
    }

    #[inline]
    fn with_in_progress(&self, method: &'static str, change: impl Fn(&GaugeWriter)) {
        match &self.in_progress {
            InProgress::All(gauge) => change(gauge),
            InProgress::ByMethod(gauges) => {
                let mut gauges = gauges.borrow_mut();
                if let Some((_, gauge)) = gauges.iter().find(|(known, _)| *known == method) {
                    return change(gauge);
                }
                let gauge = self.recorder.families.in_progress(method, self.scheme());
                change(&gauge);
                gauges.push((method, gauge));
            }
        }
    }

    fn scheme(&self) -> &'static str {
        self.application.get().map_or("http", |known| known.scheme)
    }

    /// Whether the request's endpoint is left out. Only then is the route looked up ahead of routing.
    pub(super) fn excludes(&self, request: &ServiceRequest) -> bool {
        let exclude = &self.recorder.exclude;
        !exclude.is_empty()
            && (exclude.contains("*")
                || match request.match_pattern() {
                    Some(pattern) => exclude.contains(pattern_label(&pattern)),
                    None => exclude.contains(UNMATCHED),
                })
    }

    /// The pattern of the endpoint that a path leads to, found without the request: its client or its handler is gone.
    pub(super) fn pattern_of(&self, path: &str) -> String {
        self.application
            .get()
            .and_then(|application| application.resources.match_pattern(path))
            .map_or_else(
                || UNMATCHED.to_owned(),
                |pattern| pattern_label(&pattern).to_owned(),
            )
    }

    /// The series of a request whose endpoint's pattern is known.
    pub(super) fn series(&self, pattern: &str, outcome: Outcome) -> Rc<Series> {
        self.series.resolve(self.origin(), pattern, outcome)
    }

    /// The series of an answered request, which knows its route.
    #[inline]
    pub(super) fn series_of(&self, request: &HttpRequest, outcome: Outcome) -> Rc<Series> {
        self.series.resolve_routed(self.origin(), request, outcome)
    }

    fn origin(&self) -> Origin<'_> {
        Origin {
            families: &self.recorder.families,
            scheme: self.scheme(),
        }
    }
}
