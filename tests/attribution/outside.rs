//! Queries outside of recorded requests: in background jobs, in none of both, and in excluded requests.

use std::collections::BTreeMap;

use crate::{Backed, COUNTS, LOG, QUERIES, app_on, defaults, moved};

const OF_JOBS: [&str; 6] = [
    "job_runs_total",
    "job_duration_seconds_count",
    "job_db_queries_sum",
    "job_db_queries_count",
    "job_db_seconds_count",
    "job_n_plus_one_suspected_total",
];

pub(crate) async fn a_background_job_is_recorded_like_an_endpoint<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(2, defaults).await else {
        return;
    };
    app.vitals.statements().reset();
    let before = app.scrape();
    assert_eq!(app.get("/job").await.status, 200);
    let pool = app.pool.clone();
    let spawned = app.vitals.job("nightly", async move {
        pool.run(|connection| connection.insert(7, "seven")).await?;
        pool.run(|connection| connection.insert(8, "seven")).await
    });
    assert!(actix_web::rt::spawn(spawned).await.unwrap().is_err());
    let pool = app.pool.clone();
    app.vitals
        .job_blocking("by-hand", || pool.get().unwrap().count().unwrap());
    let after = app.scrape();
    let of_job = |name: &str, outcome: &str, queries: f64| {
        [
            (format!("job_runs_total {name} {outcome}"), 1.0),
            (format!("job_duration_seconds_count {name}"), 1.0),
            (format!("job_db_queries_sum {name}"), queries),
            (format!("job_db_queries_count {name}"), 1.0),
            (format!("job_db_seconds_count {name}"), 1.0),
        ]
    };
    let mut expected: BTreeMap<String, f64> = [
        of_job("in-a-request", "ok", 12.0),
        of_job("nightly", "error", 2.0),
        of_job("by-hand", "ok", 1.0),
    ]
    .into_iter()
    .flatten()
    .collect();
    expected.insert(
        "job_n_plus_one_suspected_total in-a-request".to_owned(),
        1.0,
    );
    assert_eq!(moved(&before, &after, &OF_JOBS), expected);
    let requests = [
        "http_request_db_queries_sum",
        "db_queries_unattributed_total",
    ];
    assert_eq!(
        moved(&before, &after, &requests),
        BTreeMap::new(),
        "they are the jobs'"
    );
    for name in ["in-a-request", "nightly", "by-hand"] {
        assert_eq!(after.value("jobs_in_progress", &[("job_name", name)]), 0.0);
        let failed = [("job_name", name), ("outcome", "panicked")];
        assert_eq!(
            after.value("job_runs_total", &failed),
            0.0,
            "from the start"
        );
    }
    let statements = app.statements("sort=calls").await;
    let endpoints: Vec<_> = statements
        .iter()
        .map(|row| row["endpoints"].clone())
        .collect();
    let ran_by = |name: &str| serde_json::json!([format!("JOB {name}")]);
    assert_eq!(
        endpoints,
        [ran_by("in-a-request"), ran_by("nightly"), ran_by("by-hand")]
    );
}

pub(crate) async fn queries_outside_of_any_request_are_counted_as_such<C: Backed>() {
    let log = LOG.clone();
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    app.vitals.statements().reset();
    let before = app.scrape();
    for _ in 0..3 {
        assert_eq!(app.get("/web_block").await.status, 200);
    }
    app.get("/one").await;
    assert_eq!(
        moved(&before, &app.scrape(), &QUERIES),
        BTreeMap::from([
            ("db_queries_total select".to_owned(), 7.0),
            ("db_queries_unattributed_total select".to_owned(), 6.0),
            ("http_request_db_queries_sum /one GET".to_owned(), 1.0),
        ])
    );
    let statements = app.statements("").await;
    assert_eq!(
        (
            &statements[0]["calls"],
            &statements[0]["unattributed_calls"]
        ),
        (&7.into(), &6.into())
    );
    assert_eq!(statements[0]["endpoints"], serde_json::json!(["GET /one"]));
    let log = log.text();
    assert!(
        log.contains("actix_vitals::block in place of web::block"),
        "{log}"
    );
}

pub(crate) async fn queries_of_an_excluded_request_are_not_unattributed<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, |builder| builder.exclude(["/excluded"])).await
    else {
        return;
    };
    let before = app.scrape();
    assert_eq!(app.get("/excluded").await.status, 200);
    assert_eq!(
        moved(&before, &app.scrape(), &COUNTS),
        BTreeMap::from([
            ("db_queries_total select".to_owned(), 1.0),
            ("db_pool_wait_seconds_count default".to_owned(), 1.0),
        ])
    );
}
