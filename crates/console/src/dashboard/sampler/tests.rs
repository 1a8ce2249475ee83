//! The sampler over all families, and over none.

use std::time::Duration;

use super::*;
use vitals_registry::{Descriptor, RegistryBuilder};

const LATENCY: [f64; 3] = [0.01, 0.1, 1.0];

fn builder() -> RegistryBuilder {
    Registry::builder(|| Duration::from_secs(1))
}

fn ops_traffic() -> OpsTraffic {
    OpsTraffic {
        endpoints: OpsEndpoints::new(["/dashboard/history", "/metrics"]),
        in_progress: OpsInProgress::default(),
    }
}

struct Service {
    sampler: Sampler,
    requests: Family<Counter, 5>,
    durations: Family<Histogram, 5>,
    in_progress: Family<Gauge, 2>,
    queries: Family<Counter, 3>,
    route_queries: Family<Histogram, 2>,
    suspected: Family<Counter, 2>,
    route_loop: Family<Histogram, 2>,
    stalls: Family<Counter, 1>,
}

impl Service {
    fn new() -> Self {
        const ROUTE: [&str; 2] = ["method", "endpoint"];
        const OUTCOME: [&str; 5] = ["method", "endpoint", "http_status", "", ""];
        let mut builder = builder();
        let described = Descriptor::new("requests_total", "x", OUTCOME);
        let requests = builder.counter(described);
        let described = Descriptor::new("duration", "x", OUTCOME);
        let durations = builder.histogram(described, &LATENCY);
        let in_progress = builder.gauge(Descriptor::new("in_progress", "x", ["", ""]));
        let labels = ["", "operation", "pool"];
        let queries = builder.counter(Descriptor::new("queries_total", "x", labels));
        let described = Descriptor::new("route_queries", "x", ROUTE);
        let route_queries = builder.histogram(described, &[1.0, 10.0]);
        let described = Descriptor::new("suspected_total", "x", ROUTE);
        let suspected = builder.counter(described);
        let described = Descriptor::new("route_loop", "x", ROUTE);
        let route_loop = builder.histogram(described, &LATENCY);
        let stalls = builder.counter(Descriptor::new("stalls_total", "x", ["endpoint"]));
        let registry = builder.build().expect("valid families");
        let sources = SampledSources {
            requests: Some(requests.clone()),
            durations: Some(durations.clone()),
            in_progress: Some(in_progress.clone()),
            queries: Some(queries.clone()),
            route_queries: Some(route_queries.clone()),
            n_plus_one: Some(suspected.clone()),
            route_loop: Some(route_loop.clone()),
            stalls: Some(stalls.clone()),
            ..SampledSources::default()
        };
        Self {
            sampler: Sampler::new(&registry, sources, ops_traffic()),
            requests,
            durations,
            in_progress,
            queries,
            route_queries,
            suspected,
            route_loop,
            stalls,
        }
    }

    fn request(&self, method: &str, endpoint: &str, status: &str, seconds: f64) {
        let values = [method, endpoint, status, "https", ""];
        self.requests.series(values).inc();
        self.durations.series(values).observe(seconds);
    }

    fn sample(&mut self, time: u64) -> Tick {
        self.sampler.sample(time, 1, 1.0)
    }
}

#[test]
fn each_request_is_in_one_tick_under_its_route_and_class() {
    let mut service = Service::new();
    service.request("GET", "/data", "200", 0.004);
    service.request("GET", "/data", "503", 0.004);
    service.request("POST", "/data", "201", 0.02);
    let first = service.sample(1);
    assert_eq!(service.sampler.routes(), ["GET /data", "POST /data"]);
    assert_eq!(first.routes[0].counts, [1, 0, 0, 1, 0]);
    assert_eq!(first.routes[0].microseconds, 8000);
    assert_eq!(first.routes[0].latency.buckets.len(), 1);
    assert_eq!(first.routes[1].counts, [1, 0, 0, 0, 0]);

    service.request("POST", "/data", "422", 0.001);
    let second = service.sample(2);
    assert_eq!(second.routes.len(), 1);
    assert_eq!(second.routes[0].route, 1);
    assert_eq!(second.routes[0].counts, [0, 0, 1, 0, 0]);

    assert_eq!(service.sample(3).routes, []);
}

#[test]
fn requests_of_ops_endpoints_are_left_out() {
    let mut service = Service::new();
    service.in_progress.series(["GET", "http"]).add(4);
    service.in_progress.series(["POST", "http"]).add(1);
    let ops_traffic = &service.sampler.routes.ops_traffic.in_progress;
    let _open = [ops_traffic.clone().start(), ops_traffic.clone().start()];
    service.request("GET", "/dashboard/history", "200", 0.004);
    service.request("GET", "/metrics", "200", 0.004);
    let tick = service.sample(1);
    assert_eq!(tick.routes, []);
    assert!(service.sampler.routes().is_empty());
    assert_eq!(tick.levels[0], Some(3));
}

#[test]
fn queries_are_counted_by_operation_and_by_route() {
    let mut service = Service::new();
    service.queries.series(["sqlite", "select", "shop"]).add(4);
    service.queries.series(["postgresql", "SELECT", ""]).add(3);
    service.queries.series(["sqlite", "vacuum", ""]).add(1);
    service.request("GET", "/data", "200", 0.004);
    let queries = service.route_queries.series(["GET", "/data"]);
    queries.observe(3.0);
    queries.observe(4.0);
    let tick = service.sample(1);
    assert_eq!(tick.queries, [7, 0, 0, 0, 1]);
    assert_eq!(tick.routes[0].queries, Some(7));
    assert_eq!(tick.routes[0].database_microseconds, None);
    assert_eq!(tick.routes[0].n_plus_one, Some(0));

    service.suspected.series(["GET", "/data"]).inc();
    assert_eq!(service.sample(2).routes[0].n_plus_one, Some(1));
}

#[test]
fn quantiles_of_merged_ticks_are_those_of_all_observations() {
    let mut service = Service::new();
    let mut merged = Tick::default();
    let mut values: Vec<f64> = (1..=3000).map(|at| 0.001 * 1.003_f64.powi(at)).collect();
    for (second, chunk) in values.chunks(500).enumerate() {
        for seconds in chunk {
            service.request("GET", "/data", "200", *seconds);
        }
        merged.merge(&service.sample(second as u64));
    }
    values.sort_by(f64::total_cmp);
    let latency = &merged.routes[0].latency;
    let snapshot = HistogramSnapshot {
        count: values.len() as u64,
        native: latency.buckets.clone(),
        ..HistogramSnapshot::default()
    };
    for (share, at) in [(0.5, 1499), (0.95, 2849), (0.99, 2969)] {
        let estimated = snapshot.quantile(share).expect("observations");
        let error = (estimated / values[at] - 1.0).abs();
        assert!(error < 0.011, "{share}: {estimated} for {}", values[at]);
    }
}

#[test]
fn what_a_service_does_not_record_is_missing_and_not_zero() {
    let registry = builder().build().expect("no families are fine");
    let tick = Sampler::new(&registry, SampledSources::default(), ops_traffic()).sample(1, 1, 1.0);
    assert_eq!(tick.levels, [None; LEVELS.len()]);
    assert_eq!(tick.cpu_microseconds, None);
    let json = serde_json::to_value(&tick).expect("a tick is JSON");
    assert_eq!(json["levels"], serde_json::json!({}));
    assert_eq!(json["cpu"], serde_json::Value::Null);
}

#[test]
fn a_tick_looks_as_the_page_expects_it() {
    let mut service = Service::new();
    service.request("GET", "/data", "200", 0.004);
    service.request("GET", "/data", "200", 0.008);
    service.request("GET", "/data", "404", 0.0);
    let tick = service.sampler.sample(1_700_000_000, 1, 1.001);
    let json = serde_json::to_value(&tick).expect("a tick is JSON");
    let expected = serde_json::json!({
        "time": 1_700_000_000,
        "width": 1,
        "span": 1.001,
        "levels": {"in_flight": 0},
        "cpu": null,
        "lag": [],
        "queries": [0, 0, 0, 0, 0],
        "query": [],
        // One zero; a bucket at index -254 (0.004 s), and one an octave above.
        "routes": [[0, [2, 0, 1, 0, 0], 0.012, [1, -254, 1, 32, 1], null, null, 0, null]],
        "stalls": [],
    });
    assert_eq!(json, expected);
}

#[test]
fn time_on_event_loops_is_by_route_and_stalls_are_by_endpoint() {
    let mut service = Service::new();
    service.route_loop.series(["GET", "/data"]).observe(0.25);
    service.route_loop.series(["GET", "/metrics"]).observe(9.0);
    service.stalls.series(["/data"]).add(2);
    service.stalls.series(["/metrics"]).add(1);
    let tick = service.sample(1);
    assert_eq!(service.sampler.routes(), ["GET /data", "/data"]);
    assert_eq!(tick.routes[0].loop_microseconds, Some(250_000));
    assert_eq!(tick.stalls, [(1, 2)]);

    service.stalls.series(["/data"]).add(1);
    let mut both = tick;
    both.merge(&service.sample(2));
    assert_eq!(both.stalls, [(1, 3)]);
    assert_eq!(both.routes[0].loop_microseconds, Some(250_000));
}

#[test]
fn what_no_route_matched_is_called_so_by_any_name() {
    let mut service = Service::new();
    service.request("GET", "", "404", 0.004);
    service.request("GET", "unmatched", "404", 0.004);
    assert_eq!(service.sample(1).routes[0].counts, [0, 0, 2, 0, 0]);
    assert_eq!(service.sampler.routes(), ["GET unmatched"]);
}
