//! Answers beyond the series budget claim no shards, so their number costs no memory.

use std::time::Duration;

use super::*;
use crate::{
    http::{OptionalFamilies, Renaming},
    naming::{LATENCY_BUCKETS, Naming},
};
use vitals_registry::{Registry, RegistryBuilder};

/// The number of concurrent answers.
const ANSWERS: usize = 10_000;

const OK: RequestOutcome = RequestOutcome {
    method: "GET",
    status: StatusCode::OK,
    is_stream: false,
    ending: RequestEnding::Whole,
};

fn registry(budget: usize) -> RegistryBuilder {
    Registry::builder(|| Duration::from_secs(1)).max_series(budget)
}

fn families(registry: &mut RegistryBuilder, naming: Naming) -> HttpFamilies {
    let wanted = OptionalFamilies::default();
    let renaming = Renaming::default();
    HttpFamilies::declare(registry, naming, renaming, wanted, &LATENCY_BUCKETS)
}

/// The number of shards of each instrument that an answer records into.
fn shards(series: &RequestSeries) -> Vec<usize> {
    let mut shards = vec![series.requests.counter().shard_count()];
    if let Timing::Answer(latency) = &series.timing {
        shards.push(latency.latency.histogram.shard_count());
    }
    let route = &series.route;
    if let (Some(sizes), Some(database)) = (&route.sizes, &route.database) {
        for writer in [
            &sizes.request,
            &sizes.response,
            &database.queries,
            &database.seconds,
        ] {
            shards.push(writer.histogram().shard_count());
        }
    }
    shards
}

/// Records a request.
fn record(series: &RequestSeries) {
    series.requests.inc();
    if let Timing::Answer(latency) = &series.timing {
        latency.observe(&series.route, (1_000_000, 500_000), None);
    }
    let route = &series.route;
    if let (Some(sizes), Some(database)) = (&route.sizes, &route.database) {
        sizes.observe(1, 2);
        database.observe_none(None);
    }
}

#[test]
fn ten_thousand_answers_past_the_budget_record_into_one_shared_shard() {
    for naming in [Naming::Vitals, Naming::OpenTelemetry] {
        let families = families(&mut registry(1), naming);
        let origin = RequestOrigin {
            families: &families,
            scheme: "http",
        };
        let cache = SeriesCache::default();
        record(&cache.resolve(origin, "/first", OK));
        let answers: Vec<_> = (0..ANSWERS)
            .map(|route| cache.resolve(origin, &format!("/{route}"), OK))
            .collect();
        for series in &answers {
            record(series);
        }
        for series in [&answers[0], &answers[ANSWERS - 1]] {
            assert_eq!(shards(series), [1; 6], "one shard for this thread");
            assert_eq!(series.requests.counter().value(), ANSWERS as u64);
        }
        assert_eq!(cache.series.borrow().len(), 1);
        assert_eq!(cache.routes.borrow().len(), 1);
    }
}

#[test]
fn an_answer_with_one_family_past_the_budget_claims_no_shard_of_the_others() {
    let families = families(&mut registry(2), Naming::Vitals);
    for full in 0..2 {
        families
            .duration
            .series(["GET", &format!("/full/{full}"), "200", "", ""]);
    }
    let origin = RequestOrigin {
        families: &families,
        scheme: "http",
    };
    let cache = SeriesCache::default();
    let answers: Vec<_> = (0..ANSWERS)
        .map(|_| cache.resolve(origin, "/late", OK))
        .collect();
    for series in &answers {
        record(series);
    }
    let last = &answers[ANSWERS - 1];
    assert_eq!(last.requests.counter().value(), ANSWERS as u64);
    assert_eq!(
        shards(last)[..2],
        [1, 1],
        "the counter is its own, the histogram is not, and both are shared"
    );
    assert_eq!(
        families
            .requests
            .series(["GET", "/late", "200", "", ""])
            .value(),
        ANSWERS as u64
    );
}

#[test]
fn a_route_within_the_budget_has_one_claim_for_each_worker() {
    let families = families(&mut registry(10), Naming::Vitals);
    let origin = RequestOrigin {
        families: &families,
        scheme: "http",
    };
    let workers = [(); 3].map(|()| SeriesCache::default());
    for _ in 0..100 {
        for cache in &workers {
            record(&cache.resolve(origin, "/data", OK));
        }
    }
    let series = workers[0].resolve(origin, "/data", OK);
    assert_eq!(shards(&series), [3; 6]);
    assert_eq!(series.requests.counter().value(), 300);
}

#[test]
fn a_time_that_is_all_on_the_event_loop_counts_in_both_histograms() {
    let families = families(&mut registry(10), Naming::Vitals);
    let origin = RequestOrigin {
        families: &families,
        scheme: "http",
    };
    let cache = SeriesCache::default();
    let series = cache.resolve(origin, "/data", OK);
    let Timing::Answer(latency) = &series.timing else {
        panic!("not an answer");
    };
    let millisecond = 1_000_000;
    for times in [
        (millisecond, millisecond),
        (2 * millisecond, 2 * millisecond),
        (40 * millisecond, 8 * millisecond),
    ] {
        latency.observe(&series.route, times, None);
    }
    let loop_seconds = families.loop_seconds.series(["GET", "/data"]).snapshot();
    let latency = &latency.latency.histogram;
    for (snapshot, sum, slow) in [(latency.snapshot(), 0.043, 1), (loop_seconds, 0.011, 0)] {
        assert_eq!(snapshot.count, 3);
        assert!((snapshot.sum - sum).abs() < 1e-9, "{}", snapshot.sum);
        let above = |bound: f64| {
            let below = snapshot.classic.iter().find(|(le, _)| *le >= bound);
            snapshot.count - below.map_or(0, |(_, count)| *count)
        };
        assert_eq!(above(0.01), slow);
        assert_eq!(above(0.001), 2);
    }
    assert_eq!(latency.shard_count(), 2, "the shared one and its own");
}
