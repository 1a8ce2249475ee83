//! What known traffic moves in the families of databases: each sample that counts, whatever its family.
//!
//! The families are those of the scrape and not a list, so that a family that is added is part of each comparison.

use std::collections::BTreeMap;

use super::exposition::Exposition;

/// Rises of samples, by name and label values: `db_queries_total select`.
pub(crate) type Rises = BTreeMap<String, f64>;

/// The openings of connections. They depend on the pool, and are compared on their own.
pub(crate) const OPENINGS: [&str; 2] = [
    "db_connections_opened_total",
    "db_connection_open_seconds_count",
];

/// Whether traffic determines the value of a sample: a count, and not a level, a time or a bucket.
fn is_count(scrape: &Exposition, sample: &str) -> bool {
    let histogram = |suffix: &str| {
        let name = sample.strip_suffix(suffix)?;
        (scrape.family(name)?.kind == "histogram").then_some(name)
    };
    let (name, counts) = if let Some(name) = histogram("_count") {
        (name, true)
    } else if let Some(name) = histogram("_sum") {
        (name, !name.ends_with("_seconds"))
    } else {
        let is_counter = scrape
            .family(sample)
            .is_some_and(|family| family.kind == "counter");
        (sample, is_counter && !sample.ends_with("_seconds_total"))
    };
    let is_of_databases = name.starts_with("db_")
        || name.starts_with("http_request_db_")
        || name == "http_n_plus_one_suspected_total";
    // Captured at most once an hour, whatever the traffic.
    let is_captured = name == "db_statement_locations_captured_total";
    counts && is_of_databases && !is_captured && !OPENINGS.contains(&sample)
}

/// How much each count rose between two scrapes, without those that did not.
pub(crate) fn database_counts(before: &Exposition, after: &Exposition) -> Rises {
    let mut rises = Rises::new();
    for (name, labels, value) in after.samples() {
        let earlier = before.series(name).into_iter();
        let earlier = earlier
            .into_iter()
            .find(|(of_series, _)| *of_series == labels);
        let rise = value - earlier.map_or(0.0, |(_, value)| value);
        if rise != 0.0 && is_count(after, name) {
            let values: Vec<&str> = labels.values().map(String::as_str).collect();
            rises.insert(format!("{name} {}", values.join(" ")), rise);
        }
    }
    rises
}

/// How many connections were opened between two scrapes. Each was timed.
pub(crate) fn openings(before: &Exposition, after: &Exposition) -> f64 {
    let [opened, timed] = OPENINGS.map(|name| after.sum_rise(before, name, &[]));
    assert_eq!(opened, timed, "each opening is timed");
    opened
}

/// What a `GET` of this endpoint moves: its queries by operation, the connections that it takes, and more.
pub(crate) fn expected_counts(
    endpoint: &str,
    queries: &[(&str, f64)],
    connections: f64,
    more: &[(&str, f64)],
) -> Rises {
    let mut expected = of_queries(queries, connections);
    let sum = queries.iter().map(|(_, count)| count).sum();
    let route = format!("{endpoint} GET");
    expected.insert(format!("http_request_db_queries_count {route}"), 1.0);
    expected.insert(format!("http_request_db_queries_sum {route}"), sum);
    expected.insert(format!("http_request_db_seconds_count {route}"), 1.0);
    expected.extend(more.iter().map(|(name, rise)| ((*name).to_owned(), *rise)));
    expected.retain(|_, rise| *rise != 0.0);
    expected
}

/// The families that queries and connections change, for any caller.
pub(crate) fn of_queries(queries: &[(&str, f64)], connections: f64) -> Rises {
    let mut expected = Rises::new();
    for (operation, count) in queries {
        for name in ["db_queries_total", "db_query_duration_seconds_count"] {
            expected.insert(format!("{name} {operation}"), *count);
        }
    }
    for name in ["db_pool_wait_seconds_count", "db_pool_hold_seconds_count"] {
        expected.insert(format!("{name} default"), connections);
    }
    expected.retain(|_, rise| *rise != 0.0);
    expected
}
