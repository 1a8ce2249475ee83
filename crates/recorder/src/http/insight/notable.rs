//! The requests that are worth a look one by one: the slowest of the last hour, and the last that failed.
//!
//! A request that is neither costs one load and one comparison. For one that is, a lock is taken and nothing is
//! allocated. Of the slowest, 50 are kept for each span of five minutes. Spans end by time, independent of reads and
//! writes; the answer has the requests of the last hour's spans.
//!
//! A request stands here by its labels: never by its path, its query string, a header or a body.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use actix_web::http::StatusCode;

use crate::{
    clock::{self, Moment},
    ops_endpoints::OpsEndpoints,
};

/// Requests of either kind that are told of.
const MOST: usize = 50;
/// How long a span is.
const SPAN: Duration = Duration::from_secs(300);
/// Spans in an hour.
const SPANS: usize = 12;
/// How long a request is remembered at most.
const HOUR: Duration = Duration::from_secs(3600);

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
    inner: Arc<NotableInner>,
}

#[derive(Debug)]
struct NotableInner {
    /// Endpoints whose requests are not worth a look: those of whoever looks.
    left_out: OpsEndpoints,
    /// What a request must have taken longer than to be among the slowest of the span, in seconds, as bits: those of
    /// floats that are not negative are in the order of the floats.
    floor: AtomicU64,
    /// When the newest span ends, in the nanoseconds of a [`Moment`]: from then on the floor is none.
    span_end: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// The newest is the last.
    spans: VecDeque<SlowestWindow>,
    failed: VecDeque<NotableRequest>,
}

/// The slowest requests of some minutes.
#[derive(Debug)]
struct SlowestWindow {
    began: Moment,
    /// In no order; at most [`MOST`].
    slowest: Vec<NotableRequest>,
}

impl SlowestWindow {
    fn new(began: Moment) -> Self {
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
    /// None yet. Requests of endpoints that are `left_out` are not taken.
    pub fn new(left_out: OpsEndpoints) -> Self {
        let began = clock::now();
        let mut spans = VecDeque::with_capacity(SPANS + 1);
        spans.push_back(SlowestWindow::new(began));
        let failed = VecDeque::with_capacity(MOST);
        Self {
            inner: Arc::new(NotableInner {
                left_out,
                floor: AtomicU64::new(0),
                span_end: AtomicU64::new(began.after(SPAN).nanoseconds()),
                kept: Mutex::new(Kept { spans, failed }),
            }),
        }
    }

    /// Whether a request, which has just ended, may be one to [keep](Self::keep).
    #[inline]
    pub(in crate::http) fn wants(&self, status: StatusCode, seconds: f64, ended: Moment) -> bool {
        seconds.to_bits() > self.inner.floor.load(Relaxed)
            || status.as_u16() >= 500
            || ended.nanoseconds() >= self.inner.span_end.load(Relaxed)
    }

    /// Takes a request in where it belongs.
    #[cold]
    pub(in crate::http) fn keep(&self, request: NotableRequest) {
        self.keep_at(request, clock::now());
    }

    fn keep_at(&self, request: NotableRequest, now: Moment) {
        if self.inner.left_out.contains(&request.endpoint) {
            return;
        }
        let mut kept = self.lock();
        self.advance(&mut kept, now);
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

    /// Forgets the spans that began an hour ago, and begins a new one where the last is over.
    fn advance(&self, kept: &mut Kept, now: Moment) {
        let age = |span: &SlowestWindow| now.since(span.began);
        while kept.spans.front().is_some_and(|span| age(span) >= HOUR) {
            kept.spans.pop_front();
        }
        if kept.spans.back().is_none_or(|span| age(span) >= SPAN) {
            kept.spans.push_back(SlowestWindow::new(now));
            self.inner.floor.store(0, Relaxed);
            let end = now.after(SPAN).nanoseconds();
            self.inner.span_end.store(end, Relaxed);
        }
    }

    /// The slowest requests of about the last hour, the slowest first; at most 50.
    pub fn slowest(&self) -> Vec<NotableRequest> {
        self.slowest_at(clock::now())
    }

    fn slowest_at(&self, now: Moment) -> Vec<NotableRequest> {
        let mut kept = self.lock();
        self.advance(&mut kept, now);
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
        NotableRequests::new(OpsEndpoints::new(["/metrics"]))
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
        record_at(requests, status, seconds, clock::now())
    }

    fn record_at(requests: &NotableRequests, status: u16, seconds: f64, now: Moment) -> bool {
        let code = StatusCode::from_u16(status).expect("a status");
        let wanted = requests.wants(code, seconds, now);
        if wanted {
            requests.keep_at(request("/data", status, seconds), now);
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
        let start = clock::now();
        record_at(&requests, 200, 9.0, start);
        for span in 1..=11 {
            let now = start.after(SPAN * span + Duration::from_secs(1));
            assert!(record_at(&requests, 200, 1.0, now), "span {span}");
        }
        let slowest = times(&requests.slowest_at(start.after(SPAN * 11 + Duration::from_secs(2))));
        assert_eq!(slowest.len(), 12);
        assert_eq!(slowest[..2], [9.0, 1.0]);
        let slowest = requests.slowest_at(start.after(SPAN * 12 + Duration::from_secs(2)));
        assert_eq!(times(&slowest), [1.0; 11]);
    }

    #[test]
    fn the_slowest_of_a_full_span_are_forgotten_although_nobody_reads() {
        let requests = requests();
        let start = clock::now();
        for _ in 0..MOST {
            record_at(&requests, 200, 9.0, start);
        }
        assert!(!record_at(&requests, 200, 1.0, start.after(SPAN / 2)));
        // No reader has ended the span: the requests themselves end it.
        let two_hours_later = start.after(2 * HOUR);
        assert!(record_at(&requests, 200, 1.0, two_hours_later));
        assert_eq!(times(&requests.slowest_at(two_hours_later)), [1.0]);
        assert_eq!(requests.slowest_at(start.after(4 * HOUR)), []);
    }

    #[test]
    fn a_span_that_comes_late_takes_the_place_of_all_that_are_old() {
        let requests = requests();
        let start = clock::now();
        for span in 0..12 {
            record_at(&requests, 200, 9.0, start.after(SPAN * span));
        }
        let later = start.after(HOUR + SPAN * 6);
        record_at(&requests, 200, 1.0, later);
        let slowest = times(&requests.slowest_at(later));
        assert_eq!(slowest, [vec![9.0; 5], vec![1.0]].concat());
    }

    #[test]
    fn a_span_is_as_long_as_it_is() {
        let requests = requests();
        let start = clock::now();
        for millisecond in 1..=100 {
            record_at(&requests, 200, f64::from(millisecond), start);
        }
        requests.slowest_at(start.after(SPAN / 2));
        let within = start.after(SPAN / 2);
        assert!(!record_at(&requests, 200, 1.0, within), "the span goes on");
        let next = start.after(SPAN + Duration::from_secs(1));
        assert!(
            record_at(&requests, 200, 1.0, next),
            "each span has its own"
        );
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
