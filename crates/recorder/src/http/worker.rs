//! What one worker thread records with: its writers, its cache of series, and the application that it serves.

use std::{
    cell::{OnceCell, RefCell},
    hash::{BuildHasher as _, RandomState},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_web::{HttpRequest, dev::ServiceRequest, http::StatusCode};
use vitals_registry::GaugeWriter;

use crate::{
    clock::Moment,
    http::{
        endpoint_guess::{EndpointGuesses, PathClass, PathOutline},
        insight::kept::RandomNumbers,
        loop_watch::Stall,
        recorder::RequestRecorder,
        routes::ApplicationRoutes,
        series::{
            cache::{
                RequestEnding, RequestOrigin, RequestOutcome, RequestSeries, RouteSeries,
                SeriesCache,
            },
            families::HttpFamilies,
            labels::{
                UNMATCHED, answered_method, is_consumed_by, pattern_label, unrouted_endpoint,
            },
            path_key::PathKey,
        },
    },
    in_flight::WorkerInFlight,
    name_numbers,
    naming::Naming,
};

/// What one worker records with. The records of its requests share it and never leave its thread.
#[derive(Debug)]
pub(super) struct WorkerRecorder {
    pub(super) recorder: Arc<RequestRecorder>,
    in_progress: InProgress,
    series: SeriesCache,
    /// Whether an inner middleware is known to rewrite paths.
    rewrites_paths: bool,
    application: OnceCell<Application>,
    pub(super) in_flight: WorkerInFlight,
    guesses: EndpointGuesses,
    /// Chooses the requests that are kept at random.
    pub(super) random: RandomNumbers,
    /// The value of the label `worker`.
    number: Option<usize>,
}

/// What is known of the application from its first request.
#[derive(Debug)]
struct Application {
    routes: ApplicationRoutes,
    /// An application serves one listener, so all its requests have one scheme.
    scheme: &'static str,
}

/// A request's method and path as they arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'a> {
    pub(super) method: &'static str,
    pub(super) path: &'a str,
}

/// The gauges of the requests being served.
#[derive(Debug)]
enum InProgress {
    All(GaugeWriter),
    /// The gauges that were needed so far, by method.
    ByMethod(RefCell<Vec<(&'static str, GaugeWriter)>>),
}

impl InProgress {
    fn new(families: &HttpFamilies) -> Self {
        match families.naming {
            Naming::Vitals => Self::All(families.in_progress("", "")),
            Naming::OpenTelemetry => Self::ByMethod(RefCell::default()),
        }
    }
}

impl WorkerRecorder {
    pub(super) fn new(
        recorder: Arc<RequestRecorder>,
        rewrites_paths: bool,
        number: Option<usize>,
    ) -> Self {
        Self {
            in_progress: InProgress::new(&recorder.families),
            in_flight: recorder.in_flight.worker(number),
            guesses: EndpointGuesses::default(),
            random: RandomNumbers::new(RandomState::new().hash_one(number)),
            number,
            recorder,
            series: SeriesCache::default(),
            rewrites_paths,
            application: OnceCell::new(),
        }
    }

    /// Learns the application from its first request.
    #[inline]
    pub(super) fn learn_application(&self, request: &ServiceRequest) {
        self.application.get_or_init(|| Application {
            routes: ApplicationRoutes::new(request.resource_map(), self.rewrites_paths),
            scheme: if request.app_config().secure() {
                "https"
            } else {
                "http"
            },
        });
    }

    /// Counts one more request in progress.
    #[inline]
    pub(super) fn enter(&self, method: &'static str) {
        self.with_in_progress(method, GaugeWriter::inc);
    }

    /// Counts one request less in progress.
    #[inline]
    pub(super) fn leave(&self, method: &'static str) {
        self.with_in_progress(method, GaugeWriter::dec);
    }

    #[inline]
    fn with_in_progress(&self, method: &'static str, change: fn(&GaugeWriter)) {
        match &self.in_progress {
            InProgress::All(gauge) => change(gauge),
            InProgress::ByMethod(gauges) => self.with_in_progress_of(gauges, method, change),
        }
    }

    /// Apart from the other naming, which has one gauge.
    #[inline(never)]
    fn with_in_progress_of(
        &self,
        gauges: &RefCell<Vec<(&'static str, GaugeWriter)>>,
        method: &'static str,
        change: fn(&GaugeWriter),
    ) {
        let mut gauges = gauges.borrow_mut();
        if let Some((_, gauge)) = gauges.iter().find(|(known, _)| *known == method) {
            return change(gauge);
        }
        let gauge = self.recorder.families.in_progress(method, self.scheme());
        change(&gauge);
        gauges.push((method, gauge));
    }

    /// The scheme of the requests: `http` or `https`, by the listener.
    pub(super) fn scheme(&self) -> &'static str {
        self.application.get().map_or("http", |known| known.scheme)
    }

    /// Whether a new request will most likely be excluded, judged by its path. The route is looked up before routing only
    /// if endpoints are excluded.
    #[inline]
    pub(super) fn expects_to_exclude(&self, request: &ServiceRequest) -> bool {
        self.recorder.excludes_any() && self.excludes_route_of(request)
    }

    /// Apart from the common path: most applications exclude nothing.
    #[inline(never)]
    fn excludes_route_of(&self, request: &ServiceRequest) -> bool {
        (self.recorder).excludes(match &request.match_pattern() {
            Some(pattern) => pattern_label(pattern),
            None => UNMATCHED,
        })
    }

    /// Guesses the endpoint of a request that is about to be routed. Returns its number; 0 if it is not known.
    #[inline]
    pub(super) fn guess(&self, outline: PathOutline, sent: Sent<'_>, now: Moment) -> u32 {
        let known = self.guesses.get(outline);
        known.unwrap_or_else(|| self.look_up(outline, sent, now))
    }

    #[cold]
    fn look_up(&self, outline: PathOutline, sent: Sent<'_>, now: Moment) -> u32 {
        let class = PathClass::of(sent.method, sent.path);
        if let Some(number) = self.guesses.get_by_class(outline, class) {
            return number;
        }
        if !self.guesses.may_look_up(now) {
            return 0;
        }
        let pattern = self.pattern_of(sent.path, sent.method);
        let name = self.recorder.families.renaming.name(&pattern);
        let number = name_numbers::number_of(&name);
        self.guesses.set(outline, class, number);
        number
    }

    /// Returns the number of an answered request's endpoint, and corrects the guess for its path.
    #[cold]
    pub(super) fn correct_guess(
        &self,
        outline: PathOutline,
        sent: Sent<'_>,
        route: &RouteSeries,
    ) -> u32 {
        let number = route.endpoint_number();
        // A middleware may have answered in place of the endpoint.
        if *route.pattern != *UNMATCHED {
            let class = PathClass::of(sent.method, sent.path);
            self.guesses.set(outline, class, number);
        }
        number
    }

    /// Counts and reports a poll that kept this worker's event loop busy for too long.
    #[cold]
    pub(super) fn stalled(
        &self,
        pattern: &str,
        method: &'static str,
        trace_id: Option<u128>,
        took: Duration,
        is_reported: bool,
    ) {
        let recorder = &self.recorder;
        if recorder.excludes(pattern) {
            return;
        }
        let endpoint = &*recorder.families.renaming.name(pattern);
        recorder.families.count_stall(endpoint);
        if !is_reported {
            recorder.loop_watch.report(&Stall {
                endpoint: Some(endpoint),
                method,
                trace_id,
                worker: self.number,
                seconds: took.as_secs_f64(),
                lasts: false,
            });
        }
    }

    /// The pattern of the endpoint that a path, as it arrived, leads to. For requests that left no answer.
    pub(super) fn pattern_of(&self, path: &str, method: &str) -> String {
        let application = self.application.get();
        let learnt = &self.recorder.learnt_routes;
        let found = application.and_then(|known| known.routes.find(learnt, path, method));
        found.map_or_else(
            || UNMATCHED.to_owned(),
            |pattern| pattern_label(&pattern).to_owned(),
        )
    }

    /// The pattern of the endpoint of a request whose client left, while the request itself still exists.
    pub(super) fn pattern_of_request(&self, request: &HttpRequest, method: &str) -> String {
        self.routed_pattern(request, method).map_or_else(
            || UNMATCHED.to_owned(),
            |pattern| pattern_label(&pattern).to_owned(),
        )
    }

    /// The pattern of the resource that took the request. If none did, because a middleware answered or all guards refused
    /// it, the pattern of the resource that its path leads to.
    fn routed_pattern(&self, request: &HttpRequest, method: &str) -> Option<String> {
        let pattern = request.match_pattern()?;
        // For a request that no resource took, Actix returns the first pattern that its path matches.
        let path = request.match_info();
        if path.unprocessed().is_empty()
            || request
                .resource_map()
                .match_pattern(request.path())
                .as_ref()
                != Some(&pattern)
        {
            return Some(pattern);
        }
        let application = self.application.get()?;
        let learnt = &self.recorder.learnt_routes;
        (application.routes).find_routed(learnt, path.as_str(), method)
    }

    /// The series of a request whose endpoint's pattern is known; none if the endpoint is excluded.
    pub(super) fn series(
        &self,
        pattern: &str,
        outcome: RequestOutcome,
    ) -> Option<Rc<RequestSeries>> {
        (!self.recorder.excludes(pattern))
            .then(|| self.series.resolve(self.origin(), pattern, outcome))
    }

    /// Returns the series for an answer with this ending, if it differs from the series of a complete answer.
    #[cold]
    pub(super) fn series_of_ending(
        &self,
        series: &RequestSeries,
        ending: RequestEnding,
    ) -> Option<Rc<RequestSeries>> {
        let has_error_type = self.recorder.families.naming == Naming::OpenTelemetry;
        if !has_error_type || series.is_stream() {
            return None;
        }
        let outcome = RequestOutcome {
            ending,
            ..series.outcome()
        };
        self.series(&series.route.pattern, outcome)
    }

    /// The series of an answered request, which knows its route; none if its endpoint is excluded.
    #[inline]
    pub(super) fn series_of(
        &self,
        request: &HttpRequest,
        outline: PathOutline,
        sent: Sent<'_>,
        outcome: RequestOutcome,
    ) -> Option<Rc<RequestSeries>> {
        let key = PathKey::of(request);
        if let Some(key) = key
            && let Some(series) = self.guesses.series(outline, key, outcome)
        {
            return Some(series);
        }
        self.find_series(request, outline, key, sent, outcome)
    }

    #[cold]
    fn find_series(
        &self,
        request: &HttpRequest,
        outline: PathOutline,
        key: Option<PathKey<'_>>,
        sent: Sent<'_>,
        mut outcome: RequestOutcome,
    ) -> Option<Rc<RequestSeries>> {
        if let Some(key) = key
            && let Some(known) = self.series.remembered(key, outcome)
        {
            let series = known.series();
            self.guesses.set_series(outline, known);
            return Some(series);
        }
        let method = sent.method;
        let Some(pattern) = self.routed_pattern(request, method) else {
            let endpoint = unrouted_endpoint(request.match_info(), method, outcome.status);
            return self.series(&endpoint, outcome);
        };
        if self.recorder.excludes(pattern_label(&pattern)) {
            return None;
        }
        let is_missing = outcome.status == StatusCode::NOT_FOUND;
        let is_routed =
            key.is_some() || (is_missing && is_consumed_by(request.match_info(), &pattern));
        outcome.method = answered_method(outcome.method, outcome.status, is_routed);
        let (series, is_new) = (self.series).resolve_key(self.origin(), key, &pattern, outcome);
        if is_new && let Some(application) = self.application.get() {
            let (learnt, routed) = (&self.recorder.learnt_routes, request.match_info());
            (application.routes).learn(learnt, sent.path, routed, method, &pattern);
        }
        Some(series)
    }

    fn origin(&self) -> RequestOrigin<'_> {
        RequestOrigin {
            families: &self.recorder.families,
            scheme: self.scheme(),
        }
    }
}
