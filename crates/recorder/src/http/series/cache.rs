//! From an answered request to the handles it is recorded through: a cache that each worker thread has for itself, so
//! that a known route and outcome cost one hash and one comparison, and neither a lock nor an allocation.

use std::{cell::RefCell, hash::BuildHasher, num::NonZeroU32, rc::Rc, sync::Arc};

use actix_web::http::StatusCode;
use foldhash::fast::FixedState;
use hashbrown::{HashSet, HashTable};

use crate::{
    context::RequestContext,
    http::series::{
        families::HttpFamilies,
        labels::{client_closed_request, pattern_label},
        path_key::{OwnedPathKey, PathKey},
    },
    naming::Naming,
};
use vitals_registry::{CounterWriter, Gauge, Histogram, HistogramWriter, Resolved, SpanContext};

/// What tells a series from others of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::http) struct RequestOutcome {
    pub(in crate::http) method: &'static str,
    pub(in crate::http) status: StatusCode,
    pub(in crate::http) is_stream: bool,
    pub(in crate::http) ending: RequestEnding,
}

/// How an answer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum RequestEnding {
    /// It is whole, or on its way to be.
    Whole,
    /// Its client left before the head.
    NoHead,
    /// Its client left within the body.
    ClientLeft,
    /// Its body failed, or was shorter than the head had promised.
    BodyFailed,
}

impl RequestOutcome {
    /// Of a request whose client left before the head of an answer was sent.
    pub(in crate::http) fn abandoned(method: &'static str) -> Self {
        Self {
            method,
            status: client_closed_request(),
            is_stream: false,
            ending: RequestEnding::NoHead,
        }
    }

    /// The label of the status. OpenTelemetry's conventions have none where none was sent.
    fn status_label(&self, naming: Naming) -> &str {
        match (naming, self.ending) {
            (Naming::OpenTelemetry, RequestEnding::NoHead) => "",
            _ => self.status.as_str(),
        }
    }

    /// What OpenTelemetry's conventions call the error that a request has ended with: a status of the server's errors, or a
    /// name of few.
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

/// Where series come from.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct RequestOrigin<'a> {
    pub(in crate::http) families: &'a HttpFamilies,
    /// All of a worker's requests come by one.
    pub(in crate::http) scheme: &'static str,
}

/// The handles of one label set.
#[derive(Debug)]
pub(in crate::http) struct RequestSeries {
    pub(in crate::http) route: Rc<Route>,
    pub(in crate::http) status: StatusCode,
    ending: RequestEnding,
    pub(in crate::http) requests: CounterWriter,
    pub(in crate::http) timing: Timing,
}

/// Where the time goes that a request took.
#[derive(Debug)]
pub(in crate::http) enum Timing {
    /// Of an answer that ends: its latency.
    AnsweredRequest { latency: HistogramWriter },
    /// The life of a stream, and how many are open.
    Stream {
        active: Arc<Gauge>,
        duration: Arc<Histogram>,
    },
}

impl RequestSeries {
    pub(in crate::http) fn is_stream(&self) -> bool {
        matches!(self.timing, Timing::Stream { .. })
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

/// What all outcomes of a method and an endpoint have in common.
#[derive(Debug)]
pub(in crate::http) struct Route {
    pub(in crate::http) method: &'static str,
    pub(in crate::http) pattern: Box<str>,
    /// What the endpoint of this pattern is called.
    pub(in crate::http) endpoint: Arc<str>,
    /// The outcome, if the naming has it as labels of sizes.
    outcome: Option<(StatusCode, RequestEnding)>,
    /// None where they are not wanted.
    pub(in crate::http) sizes: Option<Sizes>,
    /// None where it is not wanted.
    pub(in crate::http) database: Option<DatabaseUse>,
    /// The statements that this worker has seen its requests run.
    pub(in crate::http) statements: ReportedStatements,
}

/// How large the bodies are.
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

/// What each request has asked of the database.
#[derive(Debug)]
pub(in crate::http) struct DatabaseUse {
    queries: HistogramWriter,
    seconds: HistogramWriter,
}

impl DatabaseUse {
    /// Observes a request that has asked nothing.
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

    /// What observes a request from another thread, later.
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

/// Statements that were seen already, by the numbers of their shapes, so that each is told of once.
#[derive(Debug, Default)]
pub(in crate::http) struct ReportedStatements(RefCell<HashSet<NonZeroU32, FixedState>>);

impl ReportedStatements {
    /// Most numbers that are kept: after more, each is seen for the first time again.
    const MOST: usize = 4096;

    /// Whether it is the first time.
    pub(in crate::http) fn is_first(&self, shape: NonZeroU32) -> bool {
        let mut seen = self.0.borrow_mut();
        if seen.len() >= Self::MOST && !seen.contains(&shape) {
            seen.clear();
        }
        seen.insert(shape)
    }
}

/// Most shapes that are remembered with an outcome: after more, it is begun anew.
const MOST_PATH_KEYS: usize = 8192;

/// One worker's cache of [`RequestSeries`].
///
/// It is bounded by the families' series budgets. A label set that overflowed is not remembered, since each of its
/// requests must count as a new overflow. So an answer past the budget makes its own [`RequestSeries`], whose writers are
/// shared ones.
#[derive(Debug, Default)]
pub(in crate::http) struct SeriesCache {
    /// Without a random seed, so that a request costs the same in every process: no client chooses the keys, which are
    /// the application's own patterns.
    hasher: FixedState,
    /// By endpoint and outcome.
    series: RefCell<HashTable<Rc<RequestSeries>>>,
    /// By method and endpoint.
    routes: RefCell<HashTable<Rc<Route>>>,
    /// By the shape of the path and the outcome.
    shapes: RefCell<HashTable<CachedPath>>,
}

/// A series that a shape and an outcome have led to.
#[derive(Debug)]
struct CachedPath {
    shape: OwnedPathKey,
    series: Rc<RequestSeries>,
}

impl SeriesCache {
    /// The series of an answered request whose route has this pattern, and whether the shape of its path is remembered from
    /// now on.
    pub(in crate::http) fn resolve_key(
        &self,
        origin: RequestOrigin<'_>,
        shape: Option<PathKey<'_>>,
        pattern: &str,
        outcome: RequestOutcome,
    ) -> (Rc<RequestSeries>, bool) {
        let (series, is_own) = self.find_or_make(origin, pattern_label(pattern), outcome);
        let shape = shape.filter(|shape| is_own && shape.is_determined_by(pattern));
        if let Some(shape) = shape {
            self.remember(shape, &series);
        }
        (series, shape.is_some())
    }

    /// The series of a request whose endpoint's pattern is known: from the cache, or from the families.
    pub(in crate::http) fn resolve(
        &self,
        origin: RequestOrigin<'_>,
        pattern: &str,
        outcome: RequestOutcome,
    ) -> Rc<RequestSeries> {
        self.find_or_make(origin, pattern, outcome).0
    }

    #[inline]
    fn hash(&self, shape: PathKey<'_>, outcome: RequestOutcome) -> u64 {
        // Methods of one length are few.
        let method = outcome.method.len();
        (self.hasher).hash_one((shape, method, outcome.status.as_u16()))
    }

    #[inline]
    pub(in crate::http) fn remembered(
        &self,
        shape: PathKey<'_>,
        outcome: RequestOutcome,
    ) -> Option<Rc<RequestSeries>> {
        let shapes = self.shapes.borrow();
        let known = shapes.find(self.hash(shape, outcome), |known| {
            known.shape.as_key() == shape && known.series.outcome() == outcome
        });
        known.map(|known| Rc::clone(&known.series))
    }

    #[cold]
    fn remember(&self, shape: PathKey<'_>, series: &Rc<RequestSeries>) {
        let known = CachedPath {
            shape: shape.to_owned(),
            series: Rc::clone(series),
        };
        let mut shapes = self.shapes.borrow_mut();
        if shapes.len() >= MOST_PATH_KEYS {
            shapes.clear();
        }
        let hash = |known: &CachedPath| self.hash(known.shape.as_key(), known.series.outcome());
        shapes.insert_unique(hash(&known), known, hash);
    }

    /// A series, and whether it is that of exactly these labels.
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

    /// A route, and whether its series are those of exactly these labels.
    fn route(
        &self,
        origin: RequestOrigin<'_>,
        pattern: &str,
        outcome: RequestOutcome,
    ) -> (Rc<Route>, bool) {
        let tells_outcome = origin.families.naming == Naming::OpenTelemetry;
        let told = tells_outcome.then_some((outcome.status, outcome.ending));
        let hash = |method: &str, pattern: &str| self.hasher.hash_one((method, pattern));
        let wanted = hash(outcome.method, pattern);
        let mut table = self.routes.borrow_mut();
        let known = table.find(wanted, |route| {
            route.method == outcome.method && *route.pattern == *pattern && route.outcome == told
        });
        if let Some(known) = known {
            return (Rc::clone(known), true);
        }
        let (route, is_own) = Route::new(origin, pattern, outcome, told);
        let route = Rc::new(route);
        if is_own {
            table.insert_unique(wanted, Rc::clone(&route), |route| {
                hash(route.method, &route.pattern)
            });
        }
        (route, is_own)
    }
}

/// The instrument that label values resolved to; clears `is_own` where it is that of the overflow.
fn take<M>(resolved: Resolved<M>, is_own: &mut bool) -> Arc<M> {
    *is_own &= resolved.is_own();
    resolved.into_series()
}

/// A writer of a histogram. Only a cache keeps its writers, and it keeps nothing where an instrument is that of the
/// overflow: those writers live as long as one answer, so they claim no shards.
fn writer(histogram: &Arc<Histogram>, is_kept: bool) -> HistogramWriter {
    if is_kept {
        histogram.writer()
    } else {
        histogram.shared_writer()
    }
}

impl RequestSeries {
    /// The series, and whether all its instruments are its own.
    fn new(
        origin: RequestOrigin<'_>,
        route: Rc<Route>,
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
            Timing::AnsweredRequest {
                latency: writer(&latency, is_own),
            }
        };
        let series = Self {
            requests: if is_own {
                requests.writer()
            } else {
                requests.shared_writer()
            },
            status: outcome.status,
            ending: outcome.ending,
            timing,
            route,
        };
        (series, is_own)
    }
}

impl Route {
    /// The route, and whether all its instruments are its own.
    fn new(
        origin: RequestOrigin<'_>,
        pattern: &str,
        outcome: RequestOutcome,
        told: Option<(StatusCode, RequestEnding)>,
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
            outcome: told,
            endpoint: name,
            statements: ReportedStatements::default(),
        };
        (route, is_own)
    }
}

#[cfg(test)]
mod tests;
