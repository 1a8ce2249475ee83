//! Notable requests: the slowest ones of the last hour, and the most recent failed ones.
//!
//! A request that is not notable costs two loads and three comparisons. A notable one takes a lock and allocates nothing.
//! The 50 slowest of each window of five minutes are kept. Windows end by time, independent of reads and writes.
//!
//! A request is kept by its labels only: no path, query string, header or body.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use crate::{
    clock::{self, Moment},
    http::insight::kept::KeptId,
    ops_endpoints::OpsEndpoints,
};

/// The most requests of each kind.
const MOST: usize = 50;
/// The length of a window.
const WINDOW: Duration = Duration::from_secs(300);
/// Windows in an hour.
const WINDOWS: usize = 12;
/// How long a request is kept at most.
const HOUR: Duration = Duration::from_secs(3600);

/// One request that was slow or failed.
#[derive(Clone, Debug, PartialEq)]
pub struct NotableRequest {
    /// When it ended.
    pub at: SystemTime,
    /// The value of the label `method`.
    pub method: &'static str,
    /// The value of the label `endpoint`.
    pub endpoint: Arc<str>,
    /// The status that was sent; 499 if the client left before.
    pub status: u16,
    /// Its duration in seconds, from its head to the last byte of its answer.
    pub seconds: f64,
    /// The sum of its queries' times, in seconds.
    pub database_seconds: f64,
    /// The number of its queries.
    pub queries: u64,
    /// The id of its trace, if it has one.
    pub trace_id: Option<u128>,
    /// The id of its timeline, if that was kept. The timeline may have been pushed out since.
    pub kept: Option<KeptId>,
}

/// The slowest requests of the last hour, and the most recent failed ones. Cheap to clone; clones share their requests.
#[derive(Clone, Debug)]
pub struct NotableRequests {
    inner: Arc<NotableInner>,
}

#[derive(Debug)]
struct NotableInner {
    /// Endpoints whose requests are never notable: those of operators who look at the notable requests.
    excluded: OpsEndpoints,
    /// The duration in seconds that a request must exceed to be one of the slowest of the window. Stored as bits, which
    /// are ordered like the floats because no duration is negative.
    floor: AtomicU64,
    /// When the newest window ends, in the nanoseconds of a [`Moment`]. After that, the floor is void.
    window_end: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// The newest is the last.
    windows: VecDeque<SlowestWindow>,
    failed: VecDeque<NotableRequest>,
}

/// The slowest requests of one window.
#[derive(Debug)]
struct SlowestWindow {
    began: Moment,
    /// At most [`MOST`], not sorted.
    slowest: Vec<NotableRequest>,
}

impl SlowestWindow {
    fn new(began: Moment) -> Self {
        Self {
            began,
            slowest: Vec::with_capacity(MOST),
        }
    }

    /// The index and the duration of the fastest request.
    fn fastest(&self) -> Option<(usize, f64)> {
        let times = self.slowest.iter().map(|request| request.seconds);
        times.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// Keeps a request if it is slow enough, and returns the duration that the next one must exceed.
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
    /// Returns an empty set that skips requests of the `excluded` endpoints.
    pub fn new(excluded: OpsEndpoints) -> Self {
        let began = clock::now();
        let mut windows = VecDeque::with_capacity(WINDOWS + 1);
        windows.push_back(SlowestWindow::new(began));
        let failed = VecDeque::with_capacity(MOST);
        Self {
            inner: Arc::new(NotableInner {
                excluded,
                floor: AtomicU64::new(0),
                window_end: AtomicU64::new(began.after(WINDOW).nanoseconds()),
                kept: Mutex::new(Kept { windows, failed }),
            }),
        }
    }

    /// Whether a request that has just ended may be among the slowest.
    #[inline]
    pub(in crate::http) fn is_slow(&self, seconds: f64, ended: Moment) -> bool {
        seconds.to_bits() > self.inner.floor.load(Relaxed)
            || ended.nanoseconds() >= self.inner.window_end.load(Relaxed)
    }

    /// Keeps a request if it is notable.
    #[cold]
    pub(in crate::http) fn keep(&self, request: NotableRequest) {
        self.keep_at(request, clock::now());
    }

    fn keep_at(&self, request: NotableRequest, now: Moment) {
        if self.inner.excluded.contains(&request.endpoint) {
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
        if let Some(window) = kept.windows.back_mut() {
            let floor = window.offer(request);
            self.inner.floor.store(floor.to_bits(), Relaxed);
        }
    }

    /// Drops the windows that began an hour ago, and begins a new one if the last has ended.
    fn advance(&self, kept: &mut Kept, now: Moment) {
        let age = |window: &SlowestWindow| now.since(window.began);
        while kept
            .windows
            .front()
            .is_some_and(|window| age(window) >= HOUR)
        {
            kept.windows.pop_front();
        }
        if kept
            .windows
            .back()
            .is_none_or(|window| age(window) >= WINDOW)
        {
            kept.windows.push_back(SlowestWindow::new(now));
            self.inner.floor.store(0, Relaxed);
            let end = now.after(WINDOW).nanoseconds();
            self.inner.window_end.store(end, Relaxed);
        }
    }

    /// Returns the slowest requests of about the last hour, slowest first; at most 50.
    pub fn slowest(&self) -> Vec<NotableRequest> {
        self.slowest_at(clock::now())
    }

    fn slowest_at(&self, now: Moment) -> Vec<NotableRequest> {
        let mut kept = self.lock();
        self.advance(&mut kept, now);
        let windows = kept.windows.iter();
        let mut slowest: Vec<NotableRequest> =
            windows.flat_map(|window| window.slowest.clone()).collect();
        drop(kept);
        slowest.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
        slowest.truncate(MOST);
        slowest
    }

    /// Returns the most recent requests that were answered with 500 or above, newest first; at most 50.
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
            kept: None,
        }
    }

    /// Does what the recorder does, and returns whether the request passed the cheap check.
    fn record(requests: &NotableRequests, status: u16, seconds: f64) -> bool {
        record_at(requests, status, seconds, clock::now())
    }

    fn record_at(requests: &NotableRequests, status: u16, seconds: f64, now: Moment) -> bool {
        let wanted = status >= 500 || requests.is_slow(seconds, now);
        if wanted {
            requests.keep_at(request("/data", status, seconds), now);
        }
        wanted
    }

    fn times(requests: &[NotableRequest]) -> Vec<f64> {
        requests.iter().map(|request| request.seconds).collect()
    }

    #[test]
    fn the_slowest_are_kept_and_the_rest_fails_the_cheap_check() {
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
            "errors of clients are not failures"
        );
    }

    #[test]
    fn requests_older_than_an_hour_are_dropped() {
        let requests = requests();
        let start = clock::now();
        record_at(&requests, 200, 9.0, start);
        for window in 1..=11 {
            let now = start.after(WINDOW * window + Duration::from_secs(1));
            assert!(record_at(&requests, 200, 1.0, now), "window {window}");
        }
        let slowest =
            times(&requests.slowest_at(start.after(WINDOW * 11 + Duration::from_secs(2))));
        assert_eq!(slowest.len(), 12);
        assert_eq!(slowest[..2], [9.0, 1.0]);
        let slowest = requests.slowest_at(start.after(WINDOW * 12 + Duration::from_secs(2)));
        assert_eq!(times(&slowest), [1.0; 11]);
    }

    #[test]
    fn the_slowest_of_a_full_window_are_dropped_without_a_reader() {
        let requests = requests();
        let start = clock::now();
        for _ in 0..MOST {
            record_at(&requests, 200, 9.0, start);
        }
        assert!(!record_at(&requests, 200, 1.0, start.after(WINDOW / 2)));
        // No reader has ended the window: the requests themselves end it.
        let two_hours_later = start.after(2 * HOUR);
        assert!(record_at(&requests, 200, 1.0, two_hours_later));
        assert_eq!(times(&requests.slowest_at(two_hours_later)), [1.0]);
        assert_eq!(requests.slowest_at(start.after(4 * HOUR)), []);
    }

    #[test]
    fn a_late_window_replaces_all_that_are_too_old() {
        let requests = requests();
        let start = clock::now();
        for window in 0..12 {
            record_at(&requests, 200, 9.0, start.after(WINDOW * window));
        }
        let later = start.after(HOUR + WINDOW * 6);
        record_at(&requests, 200, 1.0, later);
        let slowest = times(&requests.slowest_at(later));
        assert_eq!(slowest, [vec![9.0; 5], vec![1.0]].concat());
    }

    #[test]
    fn a_read_does_not_end_a_window() {
        let requests = requests();
        let start = clock::now();
        for millisecond in 1..=100 {
            record_at(&requests, 200, f64::from(millisecond), start);
        }
        requests.slowest_at(start.after(WINDOW / 2));
        let within = start.after(WINDOW / 2);
        assert!(
            !record_at(&requests, 200, 1.0, within),
            "the window goes on"
        );
        let next = start.after(WINDOW + Duration::from_secs(1));
        assert!(
            record_at(&requests, 200, 1.0, next),
            "each window has its own slowest"
        );
    }

    #[test]
    fn requests_of_ops_endpoints_are_never_notable() {
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
