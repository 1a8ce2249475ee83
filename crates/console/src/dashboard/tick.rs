//! A tick contains the numbers of one second of the service. All are integers that add up, so that ticks merge without an
//! average of averages. This module also writes ticks as JSON; `pack` writes them as bytes.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};

use vitals_registry::{HistogramSnapshot, sparse};

/// The number of classes of a status: 2xx, 3xx, 4xx, 5xx, and all others.
pub(super) const CLASSES: usize = 5;

/// The values of the label `operation`, in the order of [`Tick::queries`].
pub(super) const OPERATIONS: [&str; 5] = ["select", "insert", "update", "delete", "other"];

/// The page's names of the levels of a tick, in the order of [`Tick::levels`].
pub(super) const LEVELS: [&str; 9] = [
    "in_flight",
    "pool_used",
    "pool_idle",
    "pool_max",
    "pool_waiting",
    "resident_bytes",
    "open_fds",
    "max_fds",
    "workers",
];

/// Microseconds in a second.
const MICROSECONDS: f64 = 1e6;

/// Converts seconds to whole microseconds.
pub(super) fn microseconds(seconds: f64) -> u64 {
    whole(seconds * MICROSECONDS)
}

/// The nearest integer; 0 for a negative value and for NaN.
pub(super) fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, as intended"
    )]
    let whole = value.round() as u64;
    whole
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / MICROSECONDS
}

/// A distribution at the full resolution of native histograms (schema 5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TickDistribution {
    /// Observations of zero.
    pub(super) zeros: u64,
    /// Index and count of the populated buckets, ascending.
    pub(super) buckets: Vec<(i32, u64)>,
}

impl TickDistribution {
    /// Whether nothing was observed.
    pub(super) fn is_empty(&self) -> bool {
        self.zeros == 0 && self.buckets.is_empty()
    }

    /// The observations between `before` and `now`, two snapshots of one histogram.
    pub(super) fn since(now: &HistogramSnapshot, before: &HistogramSnapshot) -> Self {
        Self {
            buckets: sparse::since(&now.native, &before.native),
            zeros: now.zero_count.saturating_sub(before.zero_count),
        }
    }

    /// Adds the observations of another distribution.
    pub(super) fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        sparse::merge(&mut self.buckets, &other.buckets);
    }
}

/// A flat list: the zeros, then the index and the count of each bucket. Each index is relative to the one before.
impl Serialize for TickDistribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_empty() {
            return serializer.serialize_seq(Some(0))?.end();
        }
        let mut list = serializer.serialize_seq(Some(1 + 2 * self.buckets.len()))?;
        list.serialize_element(&self.zeros)?;
        let mut before = 0;
        for (index, count) in &self.buckets {
            list.serialize_element(&(index - before))?;
            list.serialize_element(count)?;
            before = *index;
        }
        list.end()
    }
}

/// The requests of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RouteTick {
    /// The number of the route.
    pub(super) route: u32,
    /// Requests by the class of their status.
    pub(super) counts: [u64; CLASSES],
    /// The sum of their durations, in microseconds.
    pub(super) microseconds: u64,
    /// The distribution of their durations.
    pub(super) latency: TickDistribution,
    /// Their queries, if those are recorded.
    pub(super) queries: Option<u64>,
    /// The time of their queries in microseconds, if it is recorded.
    pub(super) database_microseconds: Option<u64>,
    /// N+1 suspicions, if they are recorded.
    pub(super) n_plus_one: Option<u64>,
    /// The time that its requests kept an event loop busy in microseconds, if it is recorded.
    pub(super) loop_microseconds: Option<u64>,
}

impl RouteTick {
    /// Whether all counts are 0.
    pub(super) fn is_empty(&self) -> bool {
        let extra = [
            self.queries,
            self.database_microseconds,
            self.n_plus_one,
            self.loop_microseconds,
        ];
        self.counts == [0; CLASSES]
            && self.latency.is_empty()
            && extra.iter().all(|value| value.unwrap_or(0) == 0)
    }

    fn merge(&mut self, later: &Self) {
        add_each(&mut self.counts, &later.counts);
        self.microseconds += later.microseconds;
        self.latency.merge(&later.latency);
        self.queries = add(self.queries, later.queries);
        self.database_microseconds = add(self.database_microseconds, later.database_microseconds);
        self.n_plus_one = add(self.n_plus_one, later.n_plus_one);
        self.loop_microseconds = add(self.loop_microseconds, later.loop_microseconds);
    }
}

/// `[route, counts, seconds, latency, queries, seconds in the database, suspicions of N+1, seconds on event loops]`.
impl Serialize for RouteTick {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (
            self.route,
            self.counts,
            seconds(self.microseconds),
            &self.latency,
            self.queries,
            self.database_microseconds.map(seconds),
            self.n_plus_one,
            self.loop_microseconds.map(seconds),
        )
            .serialize(serializer)
    }
}

/// The numbers of the `width` seconds that end at `time`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tick {
    /// The end of the tick, in seconds since the Unix epoch.
    pub(super) time: u64,
    /// Seconds since the end of the tick before.
    pub(super) width: u64,
    /// The elapsed time that the tick covers, in microseconds.
    pub(super) span_microseconds: u64,
    /// The levels that [`LEVELS`] names. Merged ticks have the highest value.
    pub(super) levels: [Option<u64>; LEVELS.len()],
    /// Processor time, in microseconds.
    pub(super) cpu_microseconds: Option<u64>,
    /// The lag of the event loops.
    pub(super) lag: TickDistribution,
    /// Queries by operation.
    pub(super) queries: [u64; OPERATIONS.len()],
    /// The durations of queries.
    pub(super) query: TickDistribution,
    /// The routes that had requests, in ascending order of their numbers.
    pub(super) routes: Vec<RouteTick>,
    /// Stalls of event loops: the number of an endpoint, which is a route without a method, and how many stalls it had.
    /// In ascending order of the numbers.
    pub(super) stalls: Vec<(u32, u64)>,
}

impl Tick {
    /// Whether no request and no query ran, and none is under way.
    pub(super) fn is_quiet(&self) -> bool {
        let [in_flight, _, _, _, pool_waiting, ..] = self.levels;
        let levels = [in_flight, pool_waiting];
        levels.iter().all(|level| level.unwrap_or(0) == 0)
            && self.queries == [0; OPERATIONS.len()]
            && self.routes.is_empty()
            && self.stalls.is_empty()
    }

    /// Adds the next tick to this one.
    pub(super) fn merge(&mut self, later: &Self) {
        self.time = later.time;
        self.width += later.width;
        self.span_microseconds += later.span_microseconds;
        for (mine, theirs) in self.levels.iter_mut().zip(later.levels) {
            *mine = (*mine).max(theirs);
        }
        self.cpu_microseconds = add(self.cpu_microseconds, later.cpu_microseconds);
        self.lag.merge(&later.lag);
        add_each(&mut self.queries, &later.queries);
        self.query.merge(&later.query);
        for route in &later.routes {
            match (self.routes).binary_search_by_key(&route.route, |route| route.route) {
                Ok(at) => self.routes[at].merge(route),
                Err(at) => self.routes.insert(at, route.clone()),
            }
        }
        for (endpoint, stalls) in &later.stalls {
            match (self.stalls).binary_search_by_key(endpoint, |(endpoint, _)| *endpoint) {
                Ok(at) => self.stalls[at].1 += stalls,
                Err(at) => self.stalls.insert(at, (*endpoint, *stalls)),
            }
        }
    }
}

impl Serialize for Tick {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tick = serializer.serialize_struct("Tick", 10)?;
        tick.serialize_field("time", &self.time)?;
        tick.serialize_field("width", &self.width)?;
        tick.serialize_field("span", &seconds(self.span_microseconds))?;
        tick.serialize_field("levels", &TickLevels(&self.levels))?;
        tick.serialize_field("cpu", &self.cpu_microseconds.map(seconds))?;
        tick.serialize_field("lag", &self.lag)?;
        tick.serialize_field("queries", &self.queries)?;
        tick.serialize_field("query", &self.query)?;
        tick.serialize_field("routes", &self.routes)?;
        tick.serialize_field("stalls", &self.stalls)?;
        tick.end()
    }
}

/// The levels that are known, by name.
struct TickLevels<'a>(&'a [Option<u64>; LEVELS.len()]);

impl Serialize for TickLevels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, level) in LEVELS.iter().zip(self.0) {
            if let Some(level) = level {
                map.serialize_entry(name, level)?;
            }
        }
        map.end()
    }
}

fn add(mine: Option<u64>, theirs: Option<u64>) -> Option<u64> {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => Some(mine + theirs),
        (one, None) | (None, one) => one,
    }
}

fn add_each<const N: usize>(mine: &mut [u64; N], theirs: &[u64; N]) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        *mine += theirs;
    }
}
