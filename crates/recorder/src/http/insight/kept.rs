//! Which requests are kept with their timelines, and where they are found.
//!
//! A request is kept if it was slow, failed, is suspicious or was chosen. Each reason has room for a number of requests of
//! its own, so that many failures do not push out the slow ones. A request that is not kept allocates nothing.

use std::{
    cell::Cell,
    collections::VecDeque,
    fmt,
    num::NonZeroU32,
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    clock::Moment,
    http::insight::timeline::{Explanation, KeptRequest, PhaseKind},
    ops_endpoints::OpsEndpoints,
};

/// The default number of kept requests.
pub const KEPT_REQUESTS: usize = 1000;

/// The most requests that can be kept: within 8 MB.
pub const MOST_KEPT_REQUESTS: usize = 2500;

/// A minute in nanoseconds. One request of each endpoint and minute is chosen at random.
const MINUTE: u64 = 60_000_000_000;

/// How long a slow request is kept at most.
const HOUR: Duration = Duration::from_secs(3600);

/// How many times the endpoint's mean a request lasts that is slow for its endpoint.
const SLOW_FOR_ENDPOINT: f64 = 2.0;

/// Why a request is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KeepReason {
    /// It is among the slowest of the last hour.
    Slow = 0,
    /// It is the slowest of its endpoint in its minute, and took more than twice the endpoint's mean.
    SlowForEndpoint = 1,
    /// It was answered with 500 or above, panicked, or its answer was cut off.
    Failed = 2,
    /// It is suspected of an N+1 loop.
    NPlusOne = 3,
    /// It stalled its worker's event loop.
    Stall = 4,
    /// Its caller samples the trace.
    Sampled = 5,
    /// It was chosen at random among the requests of its endpoint in its minute.
    Random = 6,
}

impl KeepReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Slow,
        Self::SlowForEndpoint,
        Self::Failed,
        Self::NPlusOne,
        Self::Stall,
        Self::Sampled,
        Self::Random,
    ];

    /// Its name in reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::SlowForEndpoint => "slow_for_endpoint",
            Self::Failed => "failed",
            Self::NPlusOne => "n_plus_one",
            Self::Stall => "stall",
            Self::Sampled => "sampled",
            Self::Random => "random",
        }
    }

    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The most requests that are kept for this reason within a tick of the watchdog, a tenth of a second. Clients can cause
    /// any number of failures. In the first tick of a minute, each endpoint has a request that is chosen.
    const fn most_in_a_tick(self) -> u32 {
        match self {
            Self::Failed | Self::NPlusOne | Self::Stall | Self::Sampled => 20,
            Self::Slow | Self::SlowForEndpoint | Self::Random => 1_000,
        }
    }

    /// The percentage of all kept requests that are kept for this reason at most.
    const fn share(self) -> usize {
        match self {
            Self::Slow | Self::Failed => 20,
            Self::SlowForEndpoint | Self::Random => 18,
            Self::NPlusOne | Self::Stall | Self::Sampled => 8,
        }
    }
}

/// The reasons to keep a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct KeepReasons(u8);

impl KeepReasons {
    #[inline]
    pub(in crate::http) fn add(&mut self, reason: KeepReason, applies: bool) {
        if applies {
            self.0 |= reason.bit();
        }
    }

    #[inline]
    pub(in crate::http) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(in crate::http) fn has(self, reason: KeepReason) -> bool {
        self.0 & reason.bit() != 0
    }
}

/// The id of a kept request: 16 hexadecimal digits. Ids ascend within a process, and differ from those of earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeptId(u64);

impl fmt::Display for KeptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text is not the id of a kept request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl FromStr for KeptId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let is_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(is_hex) {
            return Err(NotAnId);
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| NotAnId)?;
        Ok(Self(number))
    }
}

/// Which kept requests are wanted. The default wants all.
#[derive(Clone, Debug, Default)]
pub struct KeptFilter {
    /// The value of the label `method`.
    pub method: Option<String>,
    /// The value of the label `endpoint`.
    pub endpoint: Option<String>,
    /// The number of a statement that they ran.
    pub statement: Option<NonZeroU32>,
    /// The id of their trace.
    pub trace_id: Option<u128>,
    /// Why they are kept.
    pub reason: Option<KeepReason>,
}

impl KeptFilter {
    fn wants(&self, request: &KeptRequest) -> bool {
        let Self {
            method,
            endpoint,
            statement,
            trace_id,
            reason,
        } = self;
        let trace = request.trace.map(|trace| trace.span.trace_id);
        method
            .as_deref()
            .is_none_or(|method| request.method == method)
            && endpoint
                .as_deref()
                .is_none_or(|endpoint| *request.endpoint == *endpoint)
            && statement.is_none_or(|statement| request.ran(statement))
            && trace_id.is_none_or(|id| trace == Some(id))
            && reason.is_none_or(|reason| request.reasons().any(|its| its == reason))
    }
}

/// The usual times of an endpoint: the medians of its requests that were chosen at random.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The number of requests that the medians are made of.
    pub requests: usize,
    /// When the earliest of them ended.
    pub since: SystemTime,
    /// The median duration.
    pub duration: Duration,
    /// The median time by kind, in the order of [`PhaseKind::ALL`].
    pub times: [Duration; PhaseKind::ALL.len()],
}

/// The kept requests. Cheap to clone; clones share the requests.
#[derive(Clone, Debug)]
pub struct KeptRequests {
    inner: Arc<KeptInner>,
}

#[derive(Debug)]
struct KeptInner {
    limit: usize,
    excluded: OpsEndpoints,
    next_id: AtomicU64,
    gates: [Gate; KeepReason::ALL.len()],
    kept: Mutex<Kept>,
}

/// Limits how many requests are kept for one reason in a tick.
#[derive(Debug, Default)]
struct Gate {
    tick: AtomicU64,
    passed: AtomicU32,
}

impl Gate {
    fn passes(&self, tick: Moment, most: u32) -> bool {
        let tick = tick.nanoseconds();
        if self.tick.swap(tick, Relaxed) != tick {
            self.passed.store(0, Relaxed);
        }
        self.passed.fetch_add(1, Relaxed) < most
    }
}

/// The kept requests by reason. A request may be kept for several.
#[derive(Debug, Default)]
struct Kept {
    /// Not sorted.
    slow: Vec<(Moment, Arc<KeptRequest>)>,
    slow_for_endpoint: VecDeque<OfMinute>,
    random: VecDeque<OfMinute>,
    /// Those of the other reasons, the newest last.
    recent: [VecDeque<Arc<KeptRequest>>; KeepReason::ALL.len()],
}

/// The one request of its endpoint and minute with the highest rank.
#[derive(Debug)]
struct OfMinute {
    minute: u64,
    rank: u64,
    request: Arc<KeptRequest>,
}

/// When a request ended, and how it ranks among those of its endpoint and minute.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Rank {
    pub(in crate::http) ended: Moment,
    /// A random number. The request with the highest one is chosen.
    pub(in crate::http) random: u64,
}

impl KeptRequests {
    /// Returns an empty set for at most `limit` requests. It skips those of the `excluded` endpoints. 0 keeps none.
    pub fn new(limit: usize, excluded: OpsEndpoints) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        // The upper half differs between processes, so that an old id is not found again.
        let first = since_epoch.map_or(1, |time| time.as_secs()) << 32 | 1;
        Self {
            inner: Arc::new(KeptInner {
                limit: limit.min(MOST_KEPT_REQUESTS),
                excluded,
                next_id: AtomicU64::new(first),
                gates: Default::default(),
                kept: Mutex::default(),
            }),
        }
    }

    /// The most requests that are kept.
    pub fn limit(&self) -> usize {
        self.inner.limit
    }

    /// Whether any request is kept.
    #[inline]
    pub(in crate::http) fn is_on(&self) -> bool {
        self.inner.limit > 0
    }

    /// The reasons that remain for a request of this endpoint, now that many may be kept at once.
    pub(in crate::http) fn allow(
        &self,
        reasons: KeepReasons,
        endpoint: &str,
        tick: Moment,
    ) -> KeepReasons {
        let mut allowed = KeepReasons::default();
        if self.inner.excluded.contains(endpoint) {
            return allowed;
        }
        for (reason, gate) in KeepReason::ALL.into_iter().zip(&self.inner.gates) {
            let most = reason.most_in_a_tick();
            allowed.add(reason, reasons.has(reason) && gate.passes(tick, most));
        }
        allowed
    }

    pub(in crate::http) fn new_id(&self) -> KeptId {
        KeptId(self.inner.next_id.fetch_add(1, Relaxed))
    }

    /// Keeps a request for those of the reasons for which it still is the right one. Returns it if there are any.
    pub(in crate::http) fn keep(
        &self,
        request: KeptRequest,
        reasons: KeepReasons,
        rank: Rank,
    ) -> Option<Arc<KeptRequest>> {
        let request = Arc::new(request);
        let mut kept = self.lock();
        let mut remaining = KeepReasons::default();
        for reason in KeepReason::ALL {
            let room = (self.inner.limit * reason.share() / 100).max(1);
            let is_kept = reasons.has(reason) && kept.keep(&request, reason, room, rank);
            remaining.add(reason, is_kept);
        }
        request.reasons.store(remaining.0, Relaxed);
        (!remaining.is_empty()).then_some(request)
    }

    /// The kept request with this id.
    pub fn get(&self, id: KeptId) -> Option<Arc<KeptRequest>> {
        let kept = self.lock();
        kept.iter().find(|request| request.id == id).cloned()
    }

    /// The kept requests that the filter wants, the newest first.
    pub fn list(&self, filter: &KeptFilter) -> Vec<Arc<KeptRequest>> {
        let mut found: Vec<_> = {
            let kept = self.lock();
            let wanted = kept.iter().filter(|request| filter.wants(request));
            wanted.cloned().collect()
        };
        found.sort_unstable_by_key(|request| std::cmp::Reverse(request.id));
        found.dedup_by_key(|request| request.id);
        found
    }

    /// The requests that were kept after the one with this id, the oldest first; all of them without an id. Of those that
    /// were pushed out meanwhile, nothing is known.
    ///
    /// The request that is chosen at random in a minute may be replaced until the minute ends.
    pub fn since(&self, id: Option<KeptId>) -> Vec<Arc<KeptRequest>> {
        let mut kept = self.list(&KeptFilter::default());
        kept.retain(|request| id.is_none_or(|id| request.id > id));
        kept.reverse();
        kept
    }

    /// The usual times of the request's endpoint. `None` if no other request of it was chosen at random.
    pub fn comparison(&self, request: &KeptRequest) -> Option<Comparison> {
        let sample: Vec<_> = {
            let kept = self.lock();
            let chosen = kept.random.iter().map(|chosen| &chosen.request);
            let comparable =
                chosen.filter(|other| other.id != request.id && is_same_endpoint(other, request));
            comparable.cloned().collect()
        };
        let since = sample.iter().map(|other| other.at).min()?;
        let explained: Vec<Explanation> = sample.iter().map(|other| other.explain()).collect();
        Some(Comparison {
            requests: sample.len(),
            since,
            duration: median(sample.iter().map(|other| other.duration)),
            times: PhaseKind::ALL.map(|kind| median(explained.iter().map(|one| one.time(kind)))),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.inner
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same_endpoint(one: &KeptRequest, other: &KeptRequest) -> bool {
    one.method == other.method && one.endpoint == other.endpoint
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let upper = times.get(times.len() / 2).copied().unwrap_or_default();
    if times.len() % 2 == 1 {
        return upper;
    }
    let lower = (times.len() / 2)
        .checked_sub(1)
        .map_or(upper, |at| times[at]);
    (lower + upper) / 2
}

impl Kept {
    /// All requests. One that is kept for several reasons comes several times.
    fn iter(&self) -> impl Iterator<Item = &Arc<KeptRequest>> {
        let slow = self.slow.iter().map(|(_, request)| request);
        let of_minutes = self.slow_for_endpoint.iter().chain(&self.random);
        slow.chain(of_minutes.map(|of_minute| &of_minute.request))
            .chain(self.recent.iter().flatten())
    }

    fn keep(
        &mut self,
        request: &Arc<KeptRequest>,
        reason: KeepReason,
        room: usize,
        rank: Rank,
    ) -> bool {
        match reason {
            KeepReason::Slow => self.keep_slow(request, room, rank.ended),
            KeepReason::SlowForEndpoint => {
                let slowness = u64::try_from(request.duration.as_nanos()).unwrap_or(u64::MAX);
                let one = OfMinute::new(request, rank.ended, slowness);
                keep_of_minute(&mut self.slow_for_endpoint, one, room, reason)
            }
            KeepReason::Random => {
                let one = OfMinute::new(request, rank.ended, rank.random);
                keep_of_minute(&mut self.random, one, room, reason)
            }
            KeepReason::Failed | KeepReason::NPlusOne | KeepReason::Stall | KeepReason::Sampled => {
                let recent = &mut self.recent[reason as usize];
                push_bounded(recent, Arc::clone(request), room);
                true
            }
        }
    }

    /// Keeps a request if it is among the slowest of the last hour.
    fn keep_slow(&mut self, request: &Arc<KeptRequest>, room: usize, now: Moment) -> bool {
        self.slow.retain(|(ended, _)| now.since(*ended) < HOUR);
        if self.slow.len() >= room {
            let times = self.slow.iter().map(|(_, kept)| kept.duration);
            let fastest = times.enumerate().min_by_key(|(_, duration)| *duration);
            match fastest {
                Some((at, duration)) if duration < request.duration => {
                    self.slow.swap_remove(at);
                }
                _ => return false,
            }
        }
        self.slow.push((now, Arc::clone(request)));
        true
    }
}

impl OfMinute {
    fn new(request: &Arc<KeptRequest>, ended: Moment, rank: u64) -> Self {
        Self {
            minute: ended.nanoseconds() / MINUTE,
            rank,
            request: Arc::clone(request),
        }
    }
}

/// Keeps a request unless one of its endpoint and minute has a higher rank.
fn keep_of_minute(
    kept: &mut VecDeque<OfMinute>,
    one: OfMinute,
    room: usize,
    reason: KeepReason,
) -> bool {
    let rival = kept
        .iter_mut()
        .rev()
        .find(|other| other.minute == one.minute && is_same_endpoint(&other.request, &one.request));
    let Some(rival) = rival else {
        push_bounded(kept, one, room);
        return true;
    };
    let is_higher = one.rank > rival.rank;
    if is_higher {
        rival.request.reasons.fetch_and(!reason.bit(), Relaxed);
        *rival = one;
    }
    is_higher
}

fn push_bounded<T>(kept: &mut VecDeque<T>, one: T, room: usize) {
    while kept.len() >= room {
        kept.pop_front();
    }
    kept.push_back(one);
}

/// One worker's choice among the requests of an endpoint: the candidate at random, and the slowest, of each minute.
#[derive(Debug, Default)]
pub(in crate::http) struct Selection {
    /// When the present minute ends, in the nanoseconds of a [`Moment`].
    minute_end: Cell<u64>,
    /// The highest random number of the minute.
    highest: Cell<u64>,
    /// The longest duration of the minute, in seconds.
    slowest: Cell<f64>,
    /// The mean of the last durations, in seconds.
    mean: Cell<f64>,
    /// The minute of the last stream that was a candidate, and its random number.
    streams: Cell<(u64, u64)>,
}

impl Selection {
    /// The reasons that a request of the endpoint has by its duration and its random number.
    #[inline]
    pub(in crate::http) fn consider(&self, rank: Rank, seconds: f64) -> KeepReasons {
        let now = rank.ended.nanoseconds();
        if now >= self.minute_end.get() {
            self.begin_minute(now, seconds);
        }
        let mut reasons = KeepReasons::default();
        if rank.random > self.highest.get() {
            self.highest.set(rank.random);
            reasons.add(KeepReason::Random, true);
        }
        let mean = self.mean.get();
        if seconds > self.slowest.get() {
            self.slowest.set(seconds);
            let is_slow = seconds > mean * SLOW_FOR_ENDPOINT;
            reasons.add(KeepReason::SlowForEndpoint, is_slow);
        }
        self.mean.set(mean + (seconds - mean) / 64.0);
        reasons
    }

    /// The reasons that a stream of the endpoint has by its random number.
    pub(in crate::http) fn consider_stream(&self, rank: Rank) -> KeepReasons {
        let minute = rank.ended.nanoseconds() / MINUTE;
        let highest = match self.streams.get() {
            (before, highest) if before == minute => highest,
            _ => 0,
        };
        let mut reasons = KeepReasons::default();
        if rank.random > highest {
            self.streams.set((minute, rank.random));
            reasons.add(KeepReason::Random, true);
        }
        reasons
    }

    #[cold]
    fn begin_minute(&self, now: u64, seconds: f64) {
        if self.minute_end.get() == 0 {
            self.mean.set(seconds);
        }
        self.minute_end.set((now / MINUTE + 1) * MINUTE);
        self.highest.set(0);
        self.slowest.set(0.0);
    }
}

/// Random numbers of one worker (xorshift64*).
#[derive(Debug)]
pub(in crate::http) struct RandomNumbers(Cell<u64>);

impl RandomNumbers {
    /// Returns numbers that follow from the seed.
    pub(in crate::http) fn new(seed: u64) -> Self {
        Self(Cell::new(seed | 1))
    }

    #[inline]
    pub(in crate::http) fn next(&self) -> u64 {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests;
