//! The handles of the series that count a request, cached by each worker. A known route and outcome cost one hash and one
//! comparison, without a lock or an allocation.

use std::{
    cell::{OnceCell, RefCell},
    hash::BuildHasher,
    ptr,
    rc::Rc,
    sync::Arc,
};

use actix_web::http::StatusCode;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use vitals_registry::{CounterWriter, Gauge, Histogram, HistogramWriter, Resolved, SpanContext};

use crate::{
    context::RequestContext,
    database::EndpointHeldSeconds,
    http::{
        insight::kept::Selection,
        series::{
            families::HttpFamilies,
            labels::{client_closed_request, pattern_label},
            path_key::{OwnedPathKey, PathKey},
        },
    },
    name_numbers,
    naming::Naming,
    repetition::RanStatements,
};

/// What distinguishes the series of one endpoint.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct RequestOutcome {
    pub(in crate::http) method: &'static str,
    pub(in crate::http) status: StatusCode,
    pub(in crate::http) is_stream: bool,
    pub(in crate::http) ending: RequestEnding,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) enum RequestEnding {
    /// It is complete, or may still become so.
    #[default]
    Whole,
    /// The client left before the head.
    NoHead,
    /// The client left during the body.
    ClientLeft,
    /// The body failed, or was shorter than the head had promised.
    BodyFailed,
}

impl PartialEq for RequestOutcome {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        // Nearly all names of one method are the same name.
        (ptr::eq(self.method, other.method) || self.method == other.method)
            && self.status == other.status
            && self.is_stream == other.is_stream
            && self.ending == other.ending
    }
}

impl RequestOutcome {
    /// The outcome of a request whose client left before the head of an answer was sent.
    pub(in crate::http) fn abandoned(method: &'static str) -> Self {
        Self {
            method,
            status: client_closed_request(),
            is_stream: false,
            ending: RequestEnding::NoHead,
        }
    }

    /// The label value of the status. OpenTelemetry's conventions have none if no status was sent.
    fn status_label(&self, naming: Naming) -> &str {
        match (naming, self.ending) {
            (Naming::OpenTelemetry, RequestEnding::NoHead) => "",
            _ => self.status.as_str(),
        }
    }

    /// The label value `error_type` of OpenTelemetry's conventions: the status of a server error, or one of two names.
    ///
    /// <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>
    fn error_type(&self, naming: Naming) -> &str {
        naming.only(match self.ending {
            _ if self.status.is_server_error() => self.status.as_str(),
            RequestEnding::Whole => "",
            RequestEnding::NoHead | RequestEnding::ClientLeft => "client_disconnected",
            RequestEnding::BodyFailed => "response_failed",
        })
    }
}

/// What all series of a worker have in common.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct RequestOrigin<'a> {
    pub(in crate::http) families: &'a HttpFamilies,
    /// The scheme of the worker's listener.
    pub(in crate::http) scheme: &'static str,
}

/// The handles of one label set.
#[derive(Debug)]
pub(in crate::http) struct RequestSeries {
    pub(in crate::http) route: Rc<RouteSeries>,
    pub(in crate::http) status: StatusCode,
    pub(in crate::http) is_server_error: bool,
    ending: RequestEnding,
    pub(in crate::http) requests: CounterWriter,
    pub(in crate::http) timing: Timing,
}

/// The series that record the duration of a request.
#[derive(Debug)]
pub(in crate::http) enum Timing {
    /// The latency of an answer that ends.
    Answer(LatencyWriters),
    /// The duration of a stream, and the number of open ones.
    Stream {
        active: Arc<Gauge>,
        duration: Arc<Histogram>,
    },
}

/// A writer of a histogram that is made when it is first used.
#[derive(Debug)]
pub(in crate::http) struct LazyWriter {
    histogram: Arc<Histogram>,
    /// Whether the writer is cached, so that it claims a shard.
    is_kept: bool,
    writer: OnceCell<HistogramWriter>,
}

impl LazyWriter {
    fn new(histogram: Arc<Histogram>, is_kept: bool) -> Self {
        Self {
            histogram,
            is_kept,
            writer: OnceCell::new(),
        }
    }

    #[inline]
    pub(in crate::http) fn get(&self) -> &HistogramWriter {
        (self.writer).get_or_init(|| writer(&self.histogram, self.is_kept))
    }
}

/// Record how long answers took, and how much of that they kept the event loop busy.
///
/// The two times are the same for a request that waited for nothing, as most do that use no database. Such a time is recorded
/// once, in a shard of both histograms.
#[derive(Debug)]
pub(in crate::http) struct LatencyWriters {
    latency: LazyWriter,
    both: OnceCell<Option<HistogramWriter>>,
}

impl LatencyWriters {
    #[inline]
    pub(in crate::http) fn observe(
        &self,
        route: &RouteSeries,
        (took, on_loop): (u64, u64),
        span: Option<&SpanContext>,
    ) {
        let seconds = seconds(took);
        if took == on_loop
            && let Some(both) = self.both(route)
        {
            return both.observe_with(seconds, span);
        }
        self.observe_each(route, (took, on_loop), span);
    }

    /// Apart from the path of requests that waited for nothing.
    #[inline(never)]
    fn observe_each(
        &self,
        route: &RouteSeries,
        (took, on_loop): (u64, u64),
        span: Option<&SpanContext>,
    ) {
        self.latency.get().observe_with(seconds(took), span);
        route.observe_loop(on_loop, span);
    }

    #[inline]
    fn both(&self, route: &RouteSeries) -> Option<&HistogramWriter> {
        let make = || {
            let are_kept = self.latency.is_kept && route.loop_seconds.is_kept;
            are_kept
                .then(|| (self.latency.histogram).writer_with(&route.loop_seconds.histogram))
                .flatten()
        };
        self.both.get_or_init(make).as_ref()
    }
}

/// Nanoseconds as seconds.
#[inline]
pub(in crate::http) fn seconds(nanoseconds: u64) -> f64 {
    // A signed number becomes a float by one instruction. It suffices for 292 years.
    i64::try_from(nanoseconds).unwrap_or(i64::MAX) as f64 / 1e9
}

impl RequestSeries {
    pub(in crate::http) fn is_stream(&self) -> bool {
        matches!(self.timing, Timing::Stream { .. })
    }

    /// Counts a stream that begins. Apart from the common path, like its end.
    #[cold]
    pub(in crate::http) fn begin_stream(&self) {
        if let Timing::Stream { active, .. } = &self.timing {
            self.requests.inc();
            active.inc();
        }
    }

    /// Observes a stream that has ended, and for how many nanoseconds it kept the event loop busy.
    #[cold]
    pub(in crate::http) fn end_stream(
        &self,
        (took, on_loop): (u64, u64),
        span: Option<&SpanContext>,
    ) {
        if let Timing::Stream { active, duration } = &self.timing {
            active.dec();
            duration.observe_with(seconds(took), span);
            self.route.observe_loop(on_loop, span);
        }
    }

    pub(in crate::http) fn outcome(&self) -> RequestOutcome {
        RequestOutcome {
            method: self.route.method,
            status: self.status,
            is_stream: self.is_stream(),
            ending: self.ending,
        }
    }
}

/// The series that all outcomes of a method and an endpoint share.
#[derive(Debug)]
pub(in crate::http) struct RouteSeries {
    pub(in crate::http) method: &'static str,
    pub(in crate::http) pattern: Box<str>,
    /// The name of the endpoint with this pattern.
    pub(in crate::http) endpoint: Arc<str>,
    /// The outcome, if the naming has labels for it on the sizes.
    outcome: Option<(StatusCode, RequestEnding)>,
    /// None if they are not recorded.
    pub(in crate::http) sizes: Option<Sizes>,
    /// None if it is not recorded.
    pub(in crate::http) database: Option<DatabaseUse>,
    /// The statements that this worker's requests of the route have run.
    pub(in crate::http) statements: RanStatements,
    /// The time that requests of the route held connections.
    pub(in crate::http) held_seconds: EndpointHeldSeconds,
    /// The time that each request kept the event loop busy.
    loop_seconds: LazyWriter,
    /// The bytes that were allocated for each request. None if they are not counted.
    pub(in crate::http) allocated: Option<Arc<Histogram>>,
    /// The number of the endpoint's name.
    endpoint_number: OnceCell<u32>,
    /// Chooses requests of the route whose timelines are kept.
    pub(in crate::http) selection: Selection,
}

/// The sizes of bodies.
#[derive(Debug)]
pub(in crate::http) struct Sizes {
    request: HistogramWriter,
    response: HistogramWriter,
}

impl Sizes {
    /// Observes one request.
    pub(in crate::http) fn observe(&self, request_bytes: u64, response_bytes: u64) {
        self.request.observe(request_bytes as f64);
        self.response.observe(response_bytes as f64);
    }
}

/// The queries of each request.
#[derive(Debug)]
pub(in crate::http) struct DatabaseUse {
    queries: HistogramWriter,
    seconds: HistogramWriter,
}

impl DatabaseUse {
    /// Observes a request without queries.
    pub(in crate::http) fn observe_none(&self, span: Option<&SpanContext>) {
        self.queries.observe_with(0.0, span);
        self.seconds.observe_with(0.0, span);
    }

    /// Observes a request.
    pub(in crate::http) fn observe(&self, context: &RequestContext) {
        let span = context.span();
        let seconds = context.database_time().as_secs_f64();
        self.queries
            .observe_with(context.queries() as f64, span.as_ref());
        self.seconds.observe_with(seconds, span.as_ref());
    }

    /// Returns a function that observes a request later, on another thread.
    pub(in crate::http) fn late(&self) -> impl Fn(&RequestContext) + Send + Sync + 'static {
        let queries = Arc::clone(self.queries.histogram());
        let seconds = Arc::clone(self.seconds.histogram());
        move |context| {
            let span = context.span();
            queries.observe_with(context.queries() as f64, span.as_ref());
            seconds.observe_with(context.database_time().as_secs_f64(), span.as_ref());
        }
    }
}

/// The most path keys that are cached. Beyond, the cache is cleared.
const MOST_PATH_KEYS: usize = 8192;

/// One worker's cache of [`RequestSeries`].
///
/// It is bounded by the families' series budgets. A label set beyond the budget is not cached, because each of its
/// requests must count as a new overflow. Each such answer creates its own [`RequestSeries`] with shared writers.
#[derive(Debug, Default)]
pub(in crate::http) struct SeriesCache {
    /// Without a random seed, so that a request costs the same in each process. Clients do not choose the keys: they are
    /// the application's patterns.
    hasher: FixedState,
    /// By endpoint and outcome.
    series: RefCell<HashTable<Rc<RequestSeries>>>,
    /// By method and endpoint.
    routes: RefCell<HashTable<Rc<RouteSeries>>>,
    /// By path key and outcome.
    paths: RefCell<HashTable<Rc<CachedPath>>>,
}

/// The series of a path key and an outcome.
#[derive(Debug)]
pub(in crate::http) struct CachedPath {
    key: OwnedPathKey,
    series: Rc<RequestSeries>,
}

impl CachedPath {
    /// Whether the series are those of this key and outcome.
    #[inline]
    pub(in crate::http) fn is_of(&self, key: PathKey<'_>, outcome: RequestOutcome) -> bool {
        self.key.as_key() == key && self.series.outcome() == outcome
    }

    #[inline]
    pub(in crate::http) fn series(&self) -> Rc<RequestSeries> {
        Rc::clone(&self.series)
    }
}

impl SeriesCache {
    /// Returns the series of an answered request whose route has this pattern, and whether its path key was cached.
    pub(in crate::http) fn resolve_key(
        &self,
        origin: RequestOrigin<'_>,
        key: Option<PathKey<'_>>,
        pattern: &str,
        outcome: RequestOutcome,
    ) -> (Rc<RequestSeries>, bool) {
        let (series, is_own) = self.find_or_make(origin, pattern_label(pattern), outcome);
        let key = key.filter(|key| is_own && key.is_determined_by(pattern));
        if let Some(key) = key {
            self.remember(key, &series);
        }
        (series, key.is_some())
    }

    /// Returns the series of a request whose endpoint's pattern is known, from the cache or from the families.
    pub(in crate::http) fn resolve(
        &self,
        origin: RequestOrigin<'_>,
        pattern: &str,
        outcome: RequestOutcome,
    ) -> Rc<RequestSeries> {
        self.find_or_make(origin, pattern, outcome).0
    }

    #[inline]
    fn hash(&self, key: PathKey<'_>, outcome: RequestOutcome) -> u64 {
        // Few methods have the same length.
        let method = outcome.method.len();
        (self.hasher).hash_one((key, method, outcome.status.as_u16()))
    }

    #[inline]
    pub(in crate::http) fn remembered(
        &self,
        key: PathKey<'_>,
        outcome: RequestOutcome,
    ) -> Option<Rc<CachedPath>> {
        let paths = self.paths.borrow();
        let known = paths.find(self.hash(key, outcome), |known| known.is_of(key, outcome));
        known.map(Rc::clone)
    }

    #[cold]
    fn remember(&self, key: PathKey<'_>, series: &Rc<RequestSeries>) {
        let known = Rc::new(CachedPath {
            key: key.to_owned(),
            series: Rc::clone(series),
        });
        let mut paths = self.paths.borrow_mut();
        if paths.len() >= MOST_PATH_KEYS {
            paths.clear();
        }
        let hash = |known: &Rc<CachedPath>| self.hash(known.key.as_key(), known.series.outcome());
        paths.insert_unique(hash(&known), known, hash);
    }

    /// Returns a series, and whether it is that of exactly these labels.
    fn find_or_make(
        &self,
        origin: RequestOrigin<'_>,
        pattern: &str,
        outcome: RequestOutcome,
    ) -> (Rc<RequestSeries>, bool) {
        let hash = |pattern: &str, outcome: RequestOutcome| {
            (self.hasher).hash_one((pattern, outcome.method, outcome.status.as_u16()))
        };
        let wanted = hash(pattern, outcome);
        let mut table = self.series.borrow_mut();
        let known = table.find(wanted, |series| {
            series.outcome() == outcome && *series.route.pattern == *pattern
        });
        if let Some(known) = known {
            return (Rc::clone(known), true);
        }
        let (route, is_route_own) = self.route(origin, pattern, outcome);
        let (series, is_own) = RequestSeries::new(origin, route, is_route_own, outcome);
        let series = Rc::new(series);
        if is_own {
            table.insert_unique(wanted, Rc::clone(&series), |series| {
                hash(&series.route.pattern, series.outcome())
            });
        }
        (series, is_own)
    }

    /// Returns a route, and whether its series are those of exactly these labels.
    fn route(
        &self,
        origin: RequestOrigin<'_>,
        pattern: &str,
        outcome: RequestOutcome,
    ) -> (Rc<RouteSeries>, bool) {
        let has_outcome = origin.families.naming == Naming::OpenTelemetry;
        let own_outcome = has_outcome.then_some((outcome.status, outcome.ending));
        let hash = |method: &str, pattern: &str| self.hasher.hash_one((method, pattern));
        let wanted = hash(outcome.method, pattern);
        let mut table = self.routes.borrow_mut();
        let known = table.find(wanted, |route| {
            route.method == outcome.method
                && *route.pattern == *pattern
                && route.outcome == own_outcome
        });
        if let Some(known) = known {
            return (Rc::clone(known), true);
        }
        let (route, is_own) = RouteSeries::new(origin, pattern, outcome, own_outcome);
        let route = Rc::new(route);
        if is_own {
            table.insert_unique(wanted, Rc::clone(&route), |route| {
                hash(route.method, &route.pattern)
            });
        }
        (route, is_own)
    }
}

/// Returns the instrument of a series, and clears `is_own` if it is the overflow series.
fn take<M>(resolved: Resolved<M>, is_own: &mut bool) -> Arc<M> {
    *is_own &= resolved.is_own();
    resolved.into_series()
}

/// Returns a writer of a histogram. Writers that are cached claim a shard. The others live as long as one answer, so they
/// use a shared shard.
fn writer(histogram: &Arc<Histogram>, is_kept: bool) -> HistogramWriter {
    if is_kept {
        histogram.writer()
    } else {
        histogram.shared_writer()
    }
}

impl RequestSeries {
    /// Returns the series, and whether none of its instruments is an overflow series.
    fn new(
        origin: RequestOrigin<'_>,
        route: Rc<RouteSeries>,
        is_route_own: bool,
        outcome: RequestOutcome,
    ) -> (Self, bool) {
        let RequestOrigin { families, scheme } = origin;
        let naming = families.naming;
        let (method, endpoint) = (
            naming.method(route.method),
            naming.endpoint(&route.endpoint),
        );
        let labels = [
            method,
            endpoint,
            outcome.status_label(naming),
            naming.only(scheme),
            outcome.error_type(naming),
        ];
        let mut is_own = is_route_own;
        let requests = take(families.requests.try_series(labels), &mut is_own);
        let timing = if outcome.is_stream {
            Timing::Stream {
                active: take(families.streams_active.try_series([endpoint]), &mut is_own),
                duration: take(families.stream_duration.try_series([endpoint]), &mut is_own),
            }
        } else {
            let latency = take(families.duration.try_series(labels), &mut is_own);
            Timing::Answer(LatencyWriters {
                latency: LazyWriter::new(latency, is_own),
                both: OnceCell::new(),
            })
        };
        let series = Self {
            requests: if is_own {
                requests.writer()
            } else {
                requests.shared_writer()
            },
            status: outcome.status,
            is_server_error: outcome.status.is_server_error(),
            ending: outcome.ending,
            timing,
            route,
        };
        (series, is_own)
    }
}

impl RouteSeries {
    /// Observes the nanoseconds for which a request kept the event loop busy.
    #[inline]
    pub(in crate::http) fn observe_loop(&self, on_loop: u64, span: Option<&SpanContext>) {
        (self.loop_seconds.get()).observe_with(seconds(on_loop), span);
    }

    /// The number of the endpoint's name, as the list of requests in flight has it.
    #[inline]
    pub(in crate::http) fn endpoint_number(&self) -> u32 {
        *(self.endpoint_number).get_or_init(|| name_numbers::number_of(&self.endpoint))
    }

    /// Returns the route, and whether none of its instruments is an overflow series.
    fn new(
        origin: RequestOrigin<'_>,
        pattern: &str,
        outcome: RequestOutcome,
        own_outcome: Option<(StatusCode, RequestEnding)>,
    ) -> (Self, bool) {
        let RequestOrigin { families, scheme } = origin;
        let (naming, name) = (families.naming, families.renaming.name(pattern));
        let method = outcome.method;
        let route = [naming.method(method), naming.endpoint(&name)];
        let size = [
            route[0],
            route[1],
            naming.only(outcome.status_label(naming)),
            naming.only(scheme),
            outcome.error_type(naming),
        ];
        let mut is_own = true;
        let sizes = families.sizes.as_ref().map(|families| {
            [&families.request, &families.response]
                .map(|family| take(family.try_series(size), &mut is_own))
        });
        let database = families.database.as_ref().map(|families| {
            [&families.queries, &families.seconds]
                .map(|family| take(family.try_series(route), &mut is_own))
        });
        let loop_seconds = take(families.loop_seconds.try_series(route), &mut is_own);
        let allocated =
            (families.allocated.as_ref()).map(|family| take(family.try_series(route), &mut is_own));
        let writers = |histograms: [Arc<Histogram>; 2]| {
            histograms.map(|histogram| writer(&histogram, is_own))
        };
        let route = Self {
            method,
            pattern: pattern.into(),
            sizes: sizes
                .map(writers)
                .map(|[request, response]| Sizes { request, response }),
            database: database
                .map(writers)
                .map(|[queries, seconds]| DatabaseUse { queries, seconds }),
            outcome: own_outcome,
            endpoint: name,
            statements: RanStatements::default(),
            held_seconds: EndpointHeldSeconds::default(),
            loop_seconds: LazyWriter::new(loop_seconds, is_own),
            allocated,
            endpoint_number: OnceCell::new(),
            selection: Selection::default(),
        };
        (route, is_own)
    }
}

#[cfg(test)]
mod tests;
