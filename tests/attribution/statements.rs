//! Statements by their shape: repeated ones, their report with its parameters, and that no value is shown.

use std::time::Duration;

use actix_vitals::Builder;
use actix_vitals::registry::Format;
use actix_web::test::TestRequest;
use diesel::r2d2::{self, ConnectionManager};

use crate::support::log::Log;
use crate::{Backed, LOG, SECRET, app, app_on, defaults, lines, moved, moves_exactly};

pub(crate) async fn the_threshold_of_n_plus_one_can_be_set_and_turned_off<C: Backed>() {
    let suspected = ["http_n_plus_one_suspected_total"];
    let Some((app, _database)) = app_on::<C>(1, |builder| builder.n_plus_one(9)).await else {
        return;
    };
    let before = app.scrape();
    app.get("/few").await;
    assert_eq!(moved(&before, &app.scrape(), &suspected).len(), 1);
    let Some((app, _database)) = app_on::<C>(1, |builder| builder.n_plus_one(0)).await else {
        return;
    };
    let before = app.scrape();
    app.get("/loop").await;
    assert!(moved(&before, &app.scrape(), &suspected).is_empty());
}

pub(crate) async fn a_loop_after_many_other_statements_is_detected<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    for (path, others) in [
        ("/after_31", 31.0),
        ("/after_32", 32.0),
        ("/after_700", 700.0),
    ] {
        let selects = others + 12.0;
        let suspected = format!("http_n_plus_one_suspected_total {path} GET");
        let queries = [("select", selects)];
        moves_exactly(&app, path, &queries, &[(suspected.as_str(), 1.0)]).await;
    }
}

pub(crate) async fn a_suspected_loop_is_logged_once_by_its_endpoint_and_its_shape<C: Backed>() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber(tracing::Level::TRACE));
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    for _ in 0..3 {
        app.get("/loop").await;
    }
    lines::logged(&log, "N+1").await;
    let text = log.text();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("N+1")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(
        lines[0].contains("endpoint=\"/loop\"") || lines[0].contains("endpoint=/loop"),
        "{text}"
    );
    assert!(
        lines[0].contains("WHERE") && lines[0].contains("= ?"),
        "{text}"
    );
}

pub(crate) async fn statements_are_reported_by_their_shape_with_their_endpoints<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    let reset = app
        .send(TestRequest::post().uri("/ops/statements/reset"))
        .await;
    assert_eq!(reset.status, 204);
    assert_eq!(app.statements("").await, Vec::<serde_json::Value>::new());
    app.get("/one").await;
    app.get("/three").await;
    app.get("/loop").await;
    app.get("/unique").await;
    let statements = app.statements("sort=calls").await;
    let calls: Vec<(u64, u64, &str)> = statements
        .iter()
        .map(|statement| {
            (
                statement["calls"].as_u64().unwrap(),
                statement["errors"].as_u64().unwrap(),
                statement["operation"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(calls[..2], [(51, 0, "select"), (2, 0, "select")]);
    assert_eq!(statements.len(), 4);
    assert_eq!(
        statements[0]["endpoints"],
        serde_json::json!(["GET /three", "GET /loop"])
    );
    assert_eq!(
        statements[1]["endpoints"],
        serde_json::json!(["GET /one", "GET /three"])
    );
    let failed = &app.statements("sort=errors&limit=1").await;
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0]["errors"], &failed[0]["calls"]),
        (&1.into(), &1.into())
    );
    let (total, mean) = (
        &statements[0]["total_seconds"],
        &statements[0]["mean_seconds"],
    );
    let (total, mean) = (total.as_f64().unwrap(), mean.as_f64().unwrap());
    assert!(total > 0.0 && (mean * 51.0 / total - 1.0).abs() < 1e-9);
    assert!(statements[0]["p95_seconds"].as_f64().unwrap() > 0.0);
    assert!(statements[0]["rows"].is_null());
    assert!(statements[0]["first_seen"].as_str() <= statements[0]["last_seen"].as_str());
}

pub(crate) async fn the_rows_of_statements_add_up_to_all_queries<C: Backed>() {
    for capacity in [1, 3, 100_000] {
        let settings: fn(Builder) -> Builder = match capacity {
            1 => |builder| builder.statements(1),
            3 => |builder| builder.statements(3),
            _ => |builder| builder.statements(100_000),
        };
        let Some((app, _database)) = app_on::<C>(2, settings).await else {
            return;
        };
        for path in [
            "/after_31",
            "/three",
            "/unique",
            "/nested",
            "/after_32",
            "/one",
        ] {
            app.get(path).await;
        }
        let rows = app.statements("limit=1000").await;
        let calls = rows.iter().map(|row| row["calls"].as_u64().unwrap());
        let scrape = app.scrape();
        let sum = |name: &str| -> f64 {
            let series = scrape.series(name).into_iter();
            series.map(|(_, value)| value).sum()
        };
        assert_eq!(calls.sum::<u64>() as f64, sum("db_queries_total"));
        let errors = rows.iter().map(|row| row["errors"].as_u64().unwrap());
        assert_eq!(errors.sum::<u64>() as f64, sum("db_query_errors_total"));
        let is_other = |row: &serde_json::Value| row["statement"] == "(other)";
        let others = rows.iter().filter(|row| is_other(row)).count();
        assert_eq!(others, usize::from(capacity < 100));
        assert_eq!(sum("db_statements"), (rows.len() - others) as f64);
        assert!(capacity > 100 || rows.len() - others == capacity);
    }
}

pub(crate) async fn wrong_parameters_and_methods_are_rejected<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    let refused = app.get("/ops/statements?sort=name&limit=0").await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.body.contains("\"sort\"") && refused.body.contains("\"limit\""),
        "{}",
        refused.body
    );
    assert_eq!(app.get("/ops/statements/reset").await.status, 405);
    let post = app.send(TestRequest::post().uri("/ops/statements")).await;
    assert_eq!(post.status, 405);
}

pub(crate) async fn ten_thousand_values_are_one_shape<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    app.vitals.statements().reset();
    let mut connection = app.pool.get().unwrap();
    for number in 0..10_000 {
        let sql = format!("SELECT id FROM items WHERE id = {number} OR name = 'n{number}'");
        connection.raw(&sql).unwrap();
    }
    drop(connection);
    let statements = app.statements("").await;
    assert_eq!(statements.len(), 1);
    assert_eq!(statements[0]["calls"], 10_000);
    assert_eq!(
        statements[0]["statement"],
        "SELECT id FROM items WHERE id = ? OR name = ?"
    );
}

pub(crate) async fn no_secret_is_shown<C: Backed>() {
    let log = LOG.clone();
    let Some((app, _database)) =
        app_on::<C>(2, |builder| builder.server_timing(true).n_plus_one(1)).await
    else {
        return;
    };
    let mut shown = Vec::new();
    for _ in 0..2 {
        let answer = app.get(&format!("/secret/{SECRET}")).await;
        assert_eq!(answer.status, 409);
        shown.push(answer.body);
        shown.push(format!("{:?}", answer.headers));
    }
    // A database that cannot be opened, with a password in its address.
    let builder = r2d2::Pool::builder()
        .max_size(1)
        .connection_timeout(Duration::from_millis(200));
    let unreachable = app
        .vitals
        .instrument(builder)
        .build_unchecked(ConnectionManager::<C>::new(C::nowhere()));
    let error = unreachable.run(app::Engine::count).await.unwrap_err();
    shown.push(format!("{error} {error:?} {unreachable:?}"));

    let statements = app.get("/ops/statements?limit=1000").await.body;
    assert!(
        statements.contains("SELECT id FROM items WHERE name = ?"),
        "{statements}"
    );
    shown.push(statements);
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let exposition = app.vitals.registry().encode(format);
        shown.push(String::from_utf8_lossy(&exposition).into_owned());
    }
    let log = log.text();
    assert!(log.contains("N+1"), "the log is captured: {log}");
    shown.push(log);
    for text in shown {
        assert!(!text.contains(SECRET), "{text}");
    }
}
