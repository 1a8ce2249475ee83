//! From the labels of an answered request to the handles it is recorded through: a cache that each worker thread has
//! for itself, so that a known label set costs one hash and one comparison, and neither a lock nor an allocation.

use std::{cell::RefCell, hash::BuildHasher, num::NonZeroU32, rc::Rc, sync::Arc, time::Duration};

use actix_web::http::StatusCode;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::families::Families;
use crate::registry::{Counter, Gauge, Histogram, Resolved, SpanContext};

/// What tells one [`Series`] from another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Labels<'a> {
    pub(super) method: &'static str,
    pub(super) pattern: &'a str,
    pub(super) status: StatusCode,
    pub(super) is_stream: bool,
}

/// The handles of one label set.
#[derive(Debug)]
pub(super) struct Series {
    method: &'static str,
    pub(super) pattern: Box<str>,
    /// What the endpoint of this pattern is called.
    pub(super) endpoint: Arc<str>,
    pub(super) status: StatusCode,
    pub(super) requests: Arc<Counter>,
    pub(super) request_size: Arc<Histogram>,
    pub(super) response_size: Arc<Histogram>,
    pub(super) timing: Timing,
    /// The statements that this worker has seen its requests run.
    pub(super) statements: Seen,
}

/// Where the time goes that a request took.
#[derive(Clone, Debug)]
pub(super) enum Timing {
    /// Of an answer that ends: its latency, and what its request has asked of the database.
    Answer {
        latency: Arc<Histogram>,
        database: DatabaseUse,
    },
    /// The life of a stream, and how many are open.
    Stream {
        active: Arc<Gauge>,
        duration: Arc<Histogram>,
    },
}

/// What each request has asked of the database.
#[derive(Clone, Debug)]
pub(super) struct DatabaseUse {
    queries: Arc<Histogram>,
    seconds: Arc<Histogram>,
}

impl DatabaseUse {
    /// Observes one request.
    pub(super) fn observe(&self, queries: u64, time: Duration, span: Option<SpanContext>) {
        self.queries.observe_with(queries as f64, span.as_ref());
        self.seconds.observe_with(time.as_secs_f64(), span.as_ref());
    }
}

impl Series {
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.timing, Timing::Stream { .. })
    }

    fn labels(&self) -> Labels<'_> {
        Labels {
            method: self.method,
            pattern: &self.pattern,
            status: self.status,
            is_stream: self.is_stream(),
        }
    }
}

/// Statements that were seen already, by the numbers of their shapes, so that each is told of once.
#[derive(Debug, Default)]
pub(super) struct Seen(RefCell<Vec<NonZeroU32>>);

impl Seen {
    /// Most numbers that are kept: after more, each is seen for the first time again.
    const MOST: usize = 256;

    /// Whether it is the first time.
    pub(super) fn is_first(&self, shape: NonZeroU32) -> bool {
        let mut seen = self.0.borrow_mut();
        if seen.contains(&shape) {
            return false;
        }
        if seen.len() >= Self::MOST {
            seen.clear();
        }
        seen.push(shape);
        true
    }
}

/// One worker's cache of [`Series`].
///
/// It is bounded by the families' series budgets: a label set that overflowed is not remembered, since each of its
/// requests must count as an overflow anew.
#[derive(Debug, Default)]
pub(super) struct SeriesCache {
    table: RefCell<HashTable<Rc<Series>>>,
    hasher: DefaultHashBuilder,
}

impl SeriesCache {
    /// The series of a label set: from the cache, or from the families.
    ///
    /// All of a worker's requests came by one `scheme`.
    pub(super) fn resolve(
        &self,
        families: &Families,
        scheme: &'static str,
        labels: Labels<'_>,
    ) -> Rc<Series> {
        let hash = self.hash(labels);
        let mut table = self.table.borrow_mut();
        if let Some(known) = table.find(hash, |series| series.labels() == labels) {
            return Rc::clone(known);
        }
        let (series, is_own) = make(families, scheme, labels);
        let series = Rc::new(series);
        if is_own {
            table.insert_unique(hash, Rc::clone(&series), |series| {
                self.hash(series.labels())
            });
        }
        series
    }
}

impl SeriesCache {
    /// Most label sets differ in their pattern or their status; of the method, the length will do.
    fn hash(&self, labels: Labels<'_>) -> u64 {
        let rest = usize::from(labels.status.as_u16()) << 8 | labels.method.len();
        self.hasher.hash_one((labels.pattern, rest))
    }
}

/// Asks the families for a label set's series, and whether all of them are its own.
fn make(families: &Families, scheme: &'static str, labels: Labels<'_>) -> (Series, bool) {
    fn take<M>(resolved: Resolved<M>, is_own: &mut bool) -> Arc<M> {
        *is_own &= resolved.is_own();
        resolved.into_series()
    }
    let naming = families.naming;
    let status = labels.status.as_str();
    let name = families.renaming.name(labels.pattern);
    let (method, endpoint) = (naming.method(labels.method), naming.endpoint(&name));
    let outcome = [method, endpoint, status, naming.only(scheme)];
    let size = [method, endpoint, naming.only(status), naming.only(scheme)];
    let mut is_own = true;
    let timing = if labels.is_stream {
        Timing::Stream {
            active: take(families.streams_active.try_series([endpoint]), &mut is_own),
            duration: take(families.stream_duration.try_series([endpoint]), &mut is_own),
        }
    } else {
        let route = [method, endpoint];
        Timing::Answer {
            latency: take(families.duration.try_series(outcome), &mut is_own),
            database: DatabaseUse {
                queries: take(families.database_queries.try_series(route), &mut is_own),
                seconds: take(families.database_seconds.try_series(route), &mut is_own),
            },
        }
    };
    let series = Series {
        method: labels.method,
        pattern: labels.pattern.into(),
        endpoint: Arc::clone(&name),
        status: labels.status,
        requests: take(families.requests.try_series(outcome), &mut is_own),
        request_size: take(families.request_size.try_series(size), &mut is_own),
        response_size: take(families.response_size.try_series(size), &mut is_own),
        timing,
        statements: Seen::default(),
    };
    (series, is_own)
}
