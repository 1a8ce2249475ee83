//! `GET /ops/statements/{id}`: one statement, from its cost to the requests that ran it.

use actix_vitals::{
    Vitals,
    database::{Order, Pool},
    ops::OpsSettings,
};
use actix_web::{App, HttpResponse, Result, error, test::init_service, web};
use diesel::{
    RunQueryDsl as _, SqliteConnection,
    r2d2::{self, ConnectionManager},
    sql_query,
};
use serde_json::Value;

use crate::support::in_process::InProcess;

/// Runs one statement with a literal. Answers 500 if the database reports an error.
async fn search(
    pool: web::Data<Pool<SqliteConnection>>,
    id: web::Path<i64>,
) -> Result<HttpResponse> {
    let sql = format!("SELECT abs({id}) AS answer");
    let found = pool.run(move |connection| sql_query(sql).execute(connection));
    found.await.map_err(error::ErrorInternalServerError)?;
    Ok(HttpResponse::Ok().finish())
}

async fn shop() -> (Vitals, InProcess) {
    let settings = OpsSettings::new().with_statements().with_requests();
    let vitals = Vitals::builder().ops(settings).build().expect("it builds");
    let manager = ConnectionManager::<SqliteConnection>::new(":memory:");
    let pool = vitals.instrument(r2d2::Pool::builder().max_size(1));
    let pool = pool.build(manager).expect("it opens");
    let app = App::new()
        .app_data(web::Data::new(pool))
        .route("/search/{id}", web::get().to(search))
        .configure(vitals.ops())
        .wrap(vitals.http());
    (vitals.clone(), InProcess::new(init_service(app).await))
}

async fn json(app: &InProcess, path: &str) -> Value {
    let answer = app.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).expect("JSON")
}

#[actix_web::test]
async fn a_statement_has_its_cost_its_hour_and_the_kept_requests_that_ran_it() {
    let (vitals, app) = shop().await;
    for id in 1..=4 {
        assert_eq!(app.get(&format!("/search/{id}")).await.status, 200);
    }
    // The absolute value of the smallest integer is an error in SQLite.
    let failed = app.get(&format!("/search/{}", i64::MIN)).await;
    assert_eq!(failed.status, 500);
    let all = json(&app, "/ops/statements").await;
    let [listed] = all["statements"].as_array().unwrap().as_slice() else {
        panic!("{all}");
    };
    let statement = json(&app, &format!("/ops/statements/{}", listed["id"])).await;
    for (name, value) in listed.as_object().unwrap() {
        assert_eq!(&statement[name], value, "{name}");
    }
    assert_eq!(
        (&statement["calls"], &statement["errors"]),
        (&5.into(), &1.into())
    );
    assert_eq!(
        statement["endpoints"],
        serde_json::json!(["GET /search/{id}"])
    );
    for (query, found) in [
        (
            "method=GET&endpoint=/search/%7Bid%7D&operation=select&text=ANSWER",
            1,
        ),
        ("endpoint=/other", 0),
        ("operation=insert", 0),
        ("method=job", 0),
        ("limit=1", 1),
    ] {
        let some = json(&app, &format!("/ops/statements?{query}")).await;
        assert_eq!(
            some["statements"].as_array().unwrap().len(),
            found,
            "{query}"
        );
    }
    let history = statement["history"].as_array().unwrap();
    let calls = history
        .iter()
        .map(|minute| minute["calls"].as_u64().unwrap());
    assert_eq!(calls.sum::<u64>(), 5, "{statement}");
    assert!(
        history.len() <= 2,
        "it ran within this minute, or the one before"
    );
    let kept = statement["kept_requests"].as_array().unwrap();
    let by_filter = format!("/ops/requests/kept?statement={}", listed["id"]);
    assert_eq!(
        json(&app, &by_filter).await["requests"],
        statement["kept_requests"]
    );
    assert!(
        kept.iter().any(|request| request["status"] == 500),
        "{statement}"
    );
    assert!(
        !statement.to_string().contains(&i64::MIN.to_string()),
        "{statement}"
    );
    let reports = vitals.statements().report(Order::Total, 10);
    let detail = vitals.statements().detail(reports[0].number.unwrap());
    assert_eq!(detail.unwrap().report.calls, 5);
    vitals.statements().reset();
    let since = |listed: &Value| listed["since"].as_str().unwrap().to_owned();
    let listed_again = json(&app, "/ops/statements").await;
    assert_eq!(listed_again["statements"], serde_json::json!([]));
    assert!(since(&listed_again) > since(&all), "{all} {listed_again}");
    let reset = json(&app, &format!("/ops/statements/{}", listed["id"])).await;
    assert_eq!(
        (&reset["calls"], &reset["endpoints"]),
        (&0.into(), &statement["endpoints"])
    );
    assert_eq!(reset["kept_requests"], statement["kept_requests"]);
}

#[actix_web::test]
async fn a_statement_that_is_not_kept_is_a_problem_that_echoes_nothing() {
    let (_, app) = shop().await;
    app.get("/search/1").await;
    assert_eq!(app.get("/ops/statements/1").await.status, 200);
    for unknown in [
        "4000000000",
        "0",
        "hunter2",
        "reset",
        "-1",
        "4294967296",
        "+1",
        "01",
        "%2B1",
    ] {
        let answer = app.get(&format!("/ops/statements/{unknown}")).await;
        assert_eq!(answer.status, 404, "{unknown}");
        let content_type = answer.headers.get("content-type").unwrap();
        assert_eq!(content_type, "application/problem+json");
        assert!(!answer.body.contains("hunter2"), "{}", answer.body);
    }
}
