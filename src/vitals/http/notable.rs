//! The requests that are worth a look one by one: the slowest of the last hour, and the last that failed.
//!
//! A request that is neither costs one load and one comparison. For one that is, a lock is taken and nothing is
//! allocated. Of the slowest, so many are kept for each span of some minutes, and those of the last hour's spans make up
//! the answer: what was slow an hour ago gives way to what is slow now.
//!
//! A request stands here by its labels: never by its path, its query string, a header or a body.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use actix_web::http::StatusCode;

/// Requests of either kind that are told of.
const MOST: usize = 50;
/// How long a span is.
const SPAN: Duration = Duration::from_secs(300);
/// Spans in an hour.
const SPANS: usize = 12;

/// One request that was slow or failed.
#[derive(Clone, Debug, PartialEq)]
pub struct NotableRequest {
    /// When it was over.
    pub at: SystemTime,
    /// Its method, as in the label.
    pub method: &'static str,
    /// Its endpoint, as in the label.
    pub endpoint: Arc<str>,
    /// The status that was sent; 499 where the client had left.
    pub status: u16,
    /// How long it took, in seconds, from its head to the last byte of its answer.
    pub seconds: f64,
    /// How long its queries took, in seconds.
    pub database_seconds: f64,
    /// How many those were.
    pub queries: u64,
    /// The trace it belongs to.
    pub trace_id: Option<u128>,
}

/// The slowest requests of the last hour and the last failed ones. Cheap to clone; a clone is the same.
#[derive(Clone, Debug)]
pub struct NotableRequests {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Endpoints whose requests are not worth a look: those of whoever looks.
    leaves_out: fn(endpoint: &str) -> bool,
    /// What a request must have taken longer than to be among the slowest of the span, in seconds, as bits: those of
    /// floats that are not negative are in the order of the floats.
    floor: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// The newest is the last.
    spans: VecDeque<Span>,
    failed: VecDeque<NotableRequest>,
}

/// The slowest requests of some minutes.
#[derive(Debug)]
struct Span {
    began: Instant,
    /// In no order; at most [`MOST`].
    slowest: Vec<NotableRequest>,
}

impl Span {
    fn new(began: Instant) -> Self {
        Self {
            began,
            slowest: Vec::with_capacity(MOST),
        }
    }

    /// The place of the fastest, and its time.
    fn fastest(&self) -> Option<(usize, f64)> {
        let times = self.slowest.iter().map(|request| request.seconds);
        times.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// Takes a request in if it is slow enough; what the next must take longer than.
    fn offer(&mut self, request: NotableRequest) -> f64 {
        if self.slowest.len() < MOST {
            self.slowest.push(request);
        } else if let Some((at, seconds)) = self.fastest()
            && request.seconds > seconds
        {
            self.slowest[at] = request;
        }
        if self.slowest.len() < MOST {
            return 0.0;
        }
        self.fastest().map_or(0.0, |(_, seconds)| seconds)
    }
}

impl NotableRequests {
    /// None yet. Requests of endpoints that `leaves_out` are not taken.
    pub(crate) fn new(leaves_out: fn(endpoint: &str) -> bool) -> Self {
        let mut spans = VecDeque::with_capacity(SPANS + 1);
        spans.push_back(Span::new(Instant::now()));
        let failed = VecDeque::with_capacity(MOST);
        Self {
            inner: Arc::new(Inner {
                leaves_out,
                floor: AtomicU64::new(0),
                kept: Mutex::new(Kept { spans, failed }),
            }),
        }
    }

    /// Whether a request may be one to [keep](Self::keep).
    #[inline]
    pub(super) fn wants(&self, status: StatusCode, seconds: f64) -> bool {
        seconds.to_bits() > self.inner.floor.load(Relaxed) || status.as_u16() >= 500
    }

    /// Takes a request in where it belongs.
    #[cold]
    pub(super) fn keep(&self, request: NotableRequest) {
        if (self.inner.leaves_out)(&request.endpoint) {
            return;
        }
        let mut kept = self.lock();
        if request.status >= 500 {
            if kept.failed.len() == MOST {
                kept.failed.pop_front();
            }
            kept.failed.push_back(request.clone());
        }
        if let Some(span) = kept.spans.back_mut() {
            let floor = span.offer(request);
            self.inner.floor.store(floor.to_bits(), Relaxed);
        }
    }

    /// Begins a new span where the last is over: to be called now and then by whoever reads.
    pub(crate) fn turn(&self, now: Instant) {
        let mut kept = self.lock();
        let is_over = (kept.spans.back())
            .is_none_or(|span| now.saturating_duration_since(span.began) >= SPAN);
        if is_over {
            if kept.spans.len() == SPANS {
                kept.spans.pop_front();
            }
            kept.spans.push_back(Span::new(now));
            self.inner.floor.store(0, Relaxed);
        }
    }

    /// The slowest requests of about the last hour, the slowest first; at most 50.
    pub fn slowest(&self) -> Vec<NotableRequest> {
        self.turn(Instant::now());
        let kept = self.lock();
        let spans = kept.spans.iter();
        let mut slowest: Vec<NotableRequest> =
            spans.flat_map(|span| span.slowest.clone()).collect();
        drop(kept);
        slowest.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
        slowest.truncate(MOST);
        slowest
    }

    /// The last requests that were answered with 500 or above, the newest first; at most 50.
    pub fn failed(&self) -> Vec<NotableRequest> {
        self.lock().failed.iter().rev().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.inner
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> NotableRequests {
        NotableRequests::new(|endpoint| endpoint == "/metrics")
    }

    fn request(endpoint: &str, status: u16, seconds: f64) -> NotableRequest {
        NotableRequest {
            at: SystemTime::UNIX_EPOCH,
            method: "GET",
            endpoint: endpoint.into(),
            status,
            seconds,
            database_seconds: 0.0,
            queries: 0,
            trace_id: None,
        }
    }

    /// Does what the recorder does; whether the request was looked at more closely.
    fn record(requests: &NotableRequests, status: u16, seconds: f64) -> bool {
        let code = StatusCode::from_u16(status).expect("a status");
        let wanted = requests.wants(code, seconds);
        if wanted {
            requests.keep(request("/data", status, seconds));
        }
        wanted
    }

    fn times(requests: &[NotableRequest]) -> Vec<f64> {
        requests.iter().map(|request| request.seconds).collect()
    }

    #[test]
    fn the_slowest_are_kept_and_the_rest_is_not_even_looked_at() {
        let requests = requests();
        for millisecond in 1..=200 {
            assert!(record(&requests, 200, f64::from(millisecond) / 1000.0));
        }
        let expected: Vec<f64> = (151..=200).rev().map(|at| f64::from(at) / 1000.0).collect();
        assert_eq!(times(&requests.slowest()), expected);
        assert!(!record(&requests, 200, 0.151));
        assert!(record(&requests, 200, 0.1511));
        assert_eq!(requests.failed(), []);
    }

    #[test]
    fn the_last_failures_are_kept_however_fast() {
        let requests = requests();
        for at in 0..70 {
            record(&requests, 200, 1.0);
            record(&requests, 500 + at % 4, f64::from(at) / 1e6);
        }
        let failed = times(&requests.failed());
        let expected: Vec<f64> = (20..70).rev().map(|at| f64::from(at) / 1e6).collect();
        assert_eq!(failed, expected);
        record(&requests, 499, 2.0);
        record(&requests, 404, 2.0);
        assert_eq!(
            times(&requests.failed()),
            failed,
            "the client's failures are not ours"
        );
    }

    #[test]
    fn what_was_slow_an_hour_ago_gives_way() {
        let requests = requests();
        let start = Instant::now();
        record(&requests, 200, 9.0);
        for span in 1..=11 {
            requests.turn(start + SPAN * span + Duration::from_secs(1));
            record(&requests, 200, 1.0);
        }
        assert_eq!(requests.slowest().len(), 12);
        assert_eq!(times(&requests.slowest())[..2], [9.0, 1.0]);
        requests.turn(start + SPAN * 12 + Duration::from_secs(2));
        assert_eq!(times(&requests.slowest()), [1.0; 11]);
    }

    #[test]
    fn a_span_is_as_long_as_it_is() {
        let requests = requests();
        let start = Instant::now();
        for millisecond in 1..=100 {
            record(&requests, 200, f64::from(millisecond));
        }
        requests.turn(start + SPAN / 2);
        assert!(!record(&requests, 200, 1.0), "the span goes on");
        requests.turn(start + SPAN + Duration::from_secs(1));
        assert!(record(&requests, 200, 1.0), "each span has its own");
    }

    #[test]
    fn whoever_looks_is_not_looked_at() {
        let requests = requests();
        requests.keep(request("/metrics", 503, 10.0));
        assert_eq!((requests.slowest(), requests.failed()), (vec![], vec![]));
    }

    #[test]
    fn keeping_a_request_allocates_nothing() {
        let requests = requests();
        let endpoint: Arc<str> = "/data".into();
        let request = |seconds| NotableRequest {
            endpoint: Arc::clone(&endpoint),
            ..request("", 500, seconds)
        };
        let prepared: Vec<NotableRequest> = (1..=200).map(|at| request(f64::from(at))).collect();
        let taken = allocation_counter::measure(|| {
            for request in prepared {
                requests.keep(request);
            }
        });
        assert_eq!(taken.count_total, 0);
    }
}
