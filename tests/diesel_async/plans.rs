//! The plans of statements that ran on asynchronous pools, by a connection that the explaining thread opens itself.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use actix_vitals::Vitals;
use actix_vitals::database::{Order, PlanReport, bb8, deadpool, mobc};
use diesel_async::{AsyncMysqlConnection, AsyncPgConnection};

use crate::engine::{AsyncSqliteConnection, Engine};
use crate::pools::TestPool;

/// The number of the statement that begins so.
fn number(vitals: &Vitals, begin: &str) -> NonZeroU32 {
    let reports = vitals.statements().report(Order::Total, 100);
    let found = reports.iter().find(|report| {
        let shape = report.statement.replace(['"', '`'], "");
        shape.starts_with(begin)
    });
    found.unwrap().number.unwrap()
}

async fn report<P: TestPool>(is_it: impl Fn(&PlanReport) -> bool) {
    let Some((url, _database)) = P::Connection::database() else {
        return;
    };
    let vitals = Vitals::builder().build().unwrap();
    let pool = P::open(&vitals, "explained", &url, 1).await;
    let mut held = pool.get().await.unwrap();
    held.create().await.unwrap();
    assert_eq!(held.name_of(1).await, Ok(Some("one".to_owned())));
    let number = number(&vitals, "SELECT items.name");
    // The only connection of the pool is held all the time.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let report = vitals.plan(number);
        if is_it(&report) {
            break;
        }
        assert!(Instant::now() < deadline, "{report:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let opened = vitals.value("db_connections_opened_total", &[]);
    assert_eq!(opened, Some(1.0));
    drop(held);
}

fn reads_the_table(report: &PlanReport) -> bool {
    let root = report.plan.as_ref().map(|plan| &plan.root);
    let mut steps: Vec<_> = root.into_iter().collect();
    while let Some(step) = steps.pop() {
        if step.table.as_deref() == Some("items") {
            return true;
        }
        steps.extend(&step.steps);
    }
    false
}

#[actix_web::test]
async fn deadpool_on_postgresql() {
    report::<deadpool::Pool<AsyncPgConnection>>(reads_the_table).await;
}

#[actix_web::test]
async fn bb8_on_postgresql() {
    report::<bb8::Pool<AsyncPgConnection>>(reads_the_table).await;
}

#[actix_web::test]
async fn mobc_on_postgresql() {
    report::<mobc::Pool<AsyncPgConnection>>(reads_the_table).await;
}

#[actix_web::test]
async fn bb8_on_sqlite() {
    report::<bb8::Pool<AsyncSqliteConnection>>(reads_the_table).await;
}

#[actix_web::test]
async fn deadpool_on_mariadb() {
    report::<deadpool::Pool<AsyncMysqlConnection>>(|report| {
        let reason = report.reason.as_deref();
        reason.is_some_and(|reason| reason.contains("MySQL and MariaDB"))
    })
    .await;
}
