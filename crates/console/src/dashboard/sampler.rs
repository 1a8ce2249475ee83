//! The sampler reads the recorders' families, by whatever names, and makes ticks. The page does not show numbers whose family
//! a service does not have.
//!
//! It has no clock and no thread: the caller passes the time.

use std::collections::HashMap;

use super::tick::{
    CLASSES, LEVELS, OPERATIONS, RouteTick, Tick, TickDistribution, microseconds, whole,
};
use crate::in_progress::OpsInProgress;
use vitals_recorder::{database, http::UNMATCHED, ops_endpoints::OpsEndpoints};
use vitals_registry::{Counter, Family, Gauge, Histogram, HistogramSnapshot, Registry};

/// The page's names of the levels of the process and its runtime.
const READ_LEVELS: [&str; 4] = ["resident_bytes", "open_fds", "max_fds", "workers"];

/// The families of these levels, and of the processor time.
const READ_FAMILIES: [&str; 5] = [
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "runtime_workers",
    "process_cpu_seconds_total",
];

/// The requests of operators, which the page leaves out: its own, scrapes, probes.
#[derive(Clone, Debug)]
pub(crate) struct OpsTraffic {
    /// The endpoints of these requests.
    pub(crate) endpoints: OpsEndpoints,
    /// How many of these requests are in progress.
    pub(crate) in_progress: OpsInProgress,
}

/// Assigns a number to each route, in the order in which they appear.
#[derive(Debug)]
struct RouteNumbers {
    ops_traffic: OpsTraffic,
    numbers: HashMap<String, u32>,
    /// The page's name of each route: its method and pattern, or the pattern alone for all methods.
    names: Vec<String>,
}

impl RouteNumbers {
    /// The number of a route, or of an endpoint if the method is empty. Returns `None` for an ops endpoint.
    fn number(&mut self, method: &str, endpoint: &str) -> Option<u32> {
        if self.ops_traffic.endpoints.contains(endpoint) {
            return None;
        }
        // OpenTelemetry's names have an empty endpoint for requests that no route matched.
        let endpoint = if endpoint.is_empty() {
            UNMATCHED
        } else {
            endpoint
        };
        let name = if method.is_empty() {
            endpoint.to_owned()
        } else {
            format!("{method} {endpoint}")
        };
        if let Some(number) = self.numbers.get(&name) {
            return Some(*number);
        }
        let number = u32::try_from(self.names.len()).ok()?;
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        Some(number)
    }

    fn by_status(&mut self, [method, endpoint, status, _, _]: [&str; 5]) -> (Option<u32>, usize) {
        // OpenTelemetry's names have an empty status for an answer that was never sent.
        let status = if status.is_empty() { "499" } else { status };
        (self.number(method, endpoint), class(status))
    }

    fn by_endpoint(&mut self, [endpoint]: [&str; 1]) -> (Option<u32>, usize) {
        (self.number("", endpoint), 0)
    }

    fn by_route(&mut self, [method, endpoint]: [&str; 2]) -> (Option<u32>, usize) {
        (self.number(method, endpoint), 0)
    }
}

/// A series, and its value at the last tick. Families only grow and keep their order, so a series is found by its position.
#[derive(Debug)]
struct FollowedSeries<T> {
    /// The number of its route; `None` if the series is left out.
    route: Option<u32>,
    /// The class of its status, or the position of its operation in [`OPERATIONS`].
    class: usize,
    before: T,
}

/// A family, and the values of its series at the last tick.
#[derive(Debug)]
struct Followed<M, T, const N: usize> {
    family: Option<Family<M, N>>,
    series: Vec<FollowedSeries<T>>,
}

impl<M, T: Default, const N: usize> Followed<M, T, N> {
    fn new(family: Option<Family<M, N>>) -> Self {
        Self {
            family,
            series: Vec::new(),
        }
    }

    /// Calls `f` with the route, the class, the metric and the last value of each series that is not left out; `f` updates
    /// that value. `classify` returns the route and the class of a new series.
    fn for_each(
        &mut self,
        mut classify: impl FnMut([&str; N]) -> (Option<u32>, usize),
        mut f: impl FnMut(u32, usize, &M, &mut T),
    ) {
        let Some(family) = &self.family else { return };
        let mut at = 0;
        family.for_each(|values, metric| {
            if at == self.series.len() {
                let (route, class) = classify(values);
                let before = T::default();
                self.series.push(FollowedSeries {
                    route,
                    class,
                    before,
                });
            }
            let series = &mut self.series[at];
            at += 1;
            if let Some(route) = series.route {
                f(route, series.class, metric, &mut series.before);
            }
        });
    }
}

/// The families and levels that a service has.
#[derive(Clone, Debug, Default)]
pub(crate) struct SampledSources {
    /// Requests, by method, endpoint, status, scheme and error.
    pub(crate) requests: Option<Family<Counter, 5>>,
    /// Durations of requests, by the same labels.
    pub(crate) durations: Option<Family<Histogram, 5>>,
    /// Queries of requests, by method and endpoint.
    pub(crate) route_queries: Option<Family<Histogram, 2>>,
    /// Database time of requests, by method and endpoint.
    pub(crate) route_database: Option<Family<Histogram, 2>>,
    /// N+1 suspicions, by method and endpoint.
    pub(crate) n_plus_one: Option<Family<Counter, 2>>,
    /// Time that requests kept an event loop busy, by method and endpoint.
    pub(crate) route_loop: Option<Family<Histogram, 2>>,
    /// Stalls of event loops, by endpoint.
    pub(crate) stalls: Option<Family<Counter, 1>>,
    /// Requests in progress; the page shows the sum of all series.
    pub(crate) in_progress: Option<Family<Gauge, 2>>,
    /// Queries, by database system and operation.
    pub(crate) queries: Option<Family<Counter, 3>>,
    /// Durations of queries, by the same labels.
    pub(crate) query_durations: Option<Family<Histogram, 3>>,
    /// Callers that wait for a connection; the page shows the sum of all series.
    pub(crate) waiters: Option<Family<Gauge, 1>>,
    /// The connections of the pools.
    pub(crate) pools: Option<database::PoolLevels>,
    /// The lag of event loops.
    pub(crate) lag: Option<Family<Histogram, 0>>,
}

/// Reads the sources, and the levels of the process, once for each tick.
#[derive(Debug)]
pub(super) struct Sampler {
    registry: Registry,
    routes: RouteNumbers,
    requests: Followed<Counter, u64, 5>,
    durations: Followed<Histogram, HistogramSnapshot, 5>,
    route_queries: Followed<Histogram, f64, 2>,
    route_database: Followed<Histogram, f64, 2>,
    n_plus_one: Followed<Counter, u64, 2>,
    route_loop: Followed<Histogram, f64, 2>,
    stalls: Followed<Counter, u64, 1>,
    queries: Followed<Counter, u64, 3>,
    query_durations: Followed<Histogram, HistogramSnapshot, 3>,
    lag: Followed<Histogram, HistogramSnapshot, 0>,
    in_progress: Option<Family<Gauge, 2>>,
    waiters: Option<Family<Gauge, 1>>,
    pools: Option<database::PoolLevels>,
    cpu_seconds: Option<f64>,
}

impl Sampler {
    /// A sampler whose first tick contains everything that was recorded before it. Leaves out `ops_traffic`.
    pub(super) fn new(
        registry: &Registry,
        sources: SampledSources,
        ops_traffic: OpsTraffic,
    ) -> Self {
        let mut sampler = Self {
            registry: registry.clone(),
            routes: RouteNumbers {
                ops_traffic,
                numbers: HashMap::new(),
                names: Vec::new(),
            },
            requests: Followed::new(sources.requests),
            durations: Followed::new(sources.durations),
            route_queries: Followed::new(sources.route_queries),
            route_database: Followed::new(sources.route_database),
            n_plus_one: Followed::new(sources.n_plus_one),
            route_loop: Followed::new(sources.route_loop),
            stalls: Followed::new(sources.stalls),
            queries: Followed::new(sources.queries),
            query_durations: Followed::new(sources.query_durations),
            lag: Followed::new(sources.lag),
            in_progress: sources.in_progress,
            waiters: sources.waiters,
            pools: sources.pools,
            cpu_seconds: None,
        };
        // The first tick must not contain the processor time since the start of the process.
        sampler.read_levels(&mut Tick::default());
        sampler
    }

    /// The names of all routes; the position is the route's number.
    pub(super) fn routes(&self) -> &[String] {
        &self.routes.names
    }

    /// Returns the tick that ends at `time`. The tick before ended `width` seconds earlier by the clock of the ticks, and `span`
    /// seconds earlier in elapsed time.
    pub(super) fn sample(&mut self, time: u64, width: u64, span: f64) -> Tick {
        let mut tick = Tick {
            time,
            width,
            span_microseconds: microseconds(span),
            ..Tick::default()
        };
        self.read_routes(&mut tick);
        self.read_database(&mut tick);
        self.lag.for_each(
            |[]| (Some(0), 0),
            |_, _, lag, before| tick.lag = advance(lag, before).0,
        );
        self.read_levels(&mut tick);
        tick
    }

    fn read_routes(&mut self, tick: &mut Tick) {
        let mut routes: Vec<RouteTick> = Vec::new();
        let names = &mut self.routes;
        self.requests.for_each(
            |values| names.by_status(values),
            |route, class, total, before| {
                of(&mut routes, route).counts[class] += rise(total, before);
            },
        );
        self.durations.for_each(
            |values| names.by_status(values),
            |route, _, histogram, before| {
                let (latency, seconds) = advance(histogram, before);
                let route = of(&mut routes, route);
                route.latency.merge(&latency);
                route.microseconds += microseconds(seconds);
            },
        );
        self.route_queries.for_each(
            |values| names.by_route(values),
            |route, _, histogram, before| {
                let queries = of(&mut routes, route).queries.get_or_insert(0);
                *queries += whole(rise_of_sum(histogram, before));
            },
        );
        self.route_database.for_each(
            |values| names.by_route(values),
            |route, _, histogram, before| {
                let spent = of(&mut routes, route)
                    .database_microseconds
                    .get_or_insert(0);
                *spent += microseconds(rise_of_sum(histogram, before));
            },
        );
        self.route_loop.for_each(
            |values| names.by_route(values),
            |route, _, histogram, before| {
                let busy = of(&mut routes, route).loop_microseconds.get_or_insert(0);
                *busy += microseconds(rise_of_sum(histogram, before));
            },
        );
        self.stalls.for_each(
            |values| names.by_endpoint(values),
            |endpoint, _, total, before| {
                let new = rise(total, before);
                if new > 0 {
                    tick.stalls.push((endpoint, new));
                }
            },
        );
        tick.stalls.sort_unstable();
        self.n_plus_one.for_each(
            |values| names.by_route(values),
            |route, _, total, before| {
                *of(&mut routes, route).n_plus_one.get_or_insert(0) += rise(total, before);
            },
        );
        if self.n_plus_one.family.is_some() {
            // A route that was never suspected has no series: its count is 0.
            for route in &mut routes {
                route.n_plus_one.get_or_insert(0);
            }
        }
        routes.retain(|route| !route.is_empty());
        tick.routes = routes;
    }

    fn read_database(&mut self, tick: &mut Tick) {
        let operation = |[_, operation, _]: [&str; 3]| {
            let mut known = OPERATIONS.iter();
            let known = known.position(|known| known.eq_ignore_ascii_case(operation));
            (Some(0), known.unwrap_or(OPERATIONS.len() - 1))
        };
        self.queries
            .for_each(operation, |_, operation, total, before| {
                tick.queries[operation] += rise(total, before);
            });
        self.query_durations
            .for_each(operation, |_, _, histogram, before| {
                tick.query.merge(&advance(histogram, before).0);
            });
    }

    fn read_levels(&mut self, tick: &mut Tick) {
        let mut set = |name: &str, level: u64| {
            if let Some(at) = LEVELS.iter().position(|known| *known == name) {
                tick.levels[at] = Some(level);
            }
        };
        let [levels @ .., cpu_seconds] = self.registry.read_levels(READ_FAMILIES);
        for (name, level) in READ_LEVELS.into_iter().zip(levels) {
            if let Some(level) = level {
                set(name, whole(level));
            }
        }
        if let Some(pools) = self.pools.as_ref().and_then(database::PoolLevels::sum) {
            set("pool_used", pools.checked_out);
            set("pool_idle", pools.idle);
            set("pool_max", pools.max);
        }
        if let Some(waiters) = &self.waiters {
            set("pool_waiting", level(waiters));
        }
        if let Some(in_progress) = &self.in_progress {
            let ops_traffic = self.routes.ops_traffic.in_progress.count();
            set("in_flight", level(in_progress).saturating_sub(ops_traffic));
        }
        let used = cpu_seconds
            .zip(self.cpu_seconds)
            .map(|(now, before)| now - before);
        tick.cpu_microseconds = used.map(microseconds);
        self.cpu_seconds = cpu_seconds.or(self.cpu_seconds);
    }
}

/// The sum of all series of a gauge.
fn level<const N: usize>(gauge: &Family<Gauge, N>) -> u64 {
    let mut sum = 0;
    gauge.for_each(|_, gauge| sum += gauge.value());
    u64::try_from(sum).unwrap_or(0)
}

/// The class of a status: the position of its first digit among 2 to 5, or the last class.
fn class(status: &str) -> usize {
    match status.as_bytes() {
        [first @ b'2'..=b'5', _, _] => usize::from(first - b'2'),
        _ => CLASSES - 1,
    }
}

/// The entry of a route in a list that is ordered by number. Inserts it if it is missing.
fn of(routes: &mut Vec<RouteTick>, number: u32) -> &mut RouteTick {
    let at = match routes.binary_search_by_key(&number, |route| route.route) {
        Ok(at) => at,
        Err(at) => {
            let route = RouteTick {
                route: number,
                ..RouteTick::default()
            };
            routes.insert(at, route);
            at
        }
    };
    &mut routes[at]
}

fn rise(counter: &Counter, before: &mut u64) -> u64 {
    let now = counter.value();
    now.saturating_sub(std::mem::replace(before, now))
}

fn rise_of_sum(histogram: &Histogram, before: &mut f64) -> f64 {
    let now = histogram.snapshot().sum;
    now - std::mem::replace(before, now)
}

/// Returns the observations since `before` and their sum, and updates `before`.
fn advance(histogram: &Histogram, before: &mut HistogramSnapshot) -> (TickDistribution, f64) {
    let now = histogram.snapshot();
    let new = TickDistribution::since(&now, before);
    let sum = now.sum - before.sum;
    *before = now;
    (new, sum)
}

#[cfg(test)]
mod tests;
