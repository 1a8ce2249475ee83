//! Tables that change under a running service, and sessions that lose their prepared statements: callers get their answers, and
//! the log has one line.

use std::sync::Arc;

use diesel::{Connection as _, PgConnection, connection::SimpleConnection as _};
use reqwest::Method;
use serde_json::json;

use crate::support::postgres::{Cluster, Database};
use crate::support::server::{Data as _, Server};
use crate::support::tools;

const STALE: &str = "prepared statements were stale";

/// A service whose four connections have all prepared their statements; `None` once the skip of `test` is recorded.
async fn warm_server(test: &str, flags: &[&str]) -> Option<(Arc<Database>, Server, i64)> {
    let database = Cluster::shared(&tools::postgres(test)?).database();
    // The log has no line about a busy machine.
    let flags = [&["--pool-size=4", "--stall-threshold=24h"], flags].concat();
    let server = Server::start_on(database.clone(), &flags);
    let id = server.create("Ada").await;
    for _ in 0..5 {
        asks_everything(&server, id).await;
    }
    Some((database, server, id))
}

/// Each kind of request, four of each at a time: all are answered as if nothing had happened.
async fn asks_everything(server: &Server, id: i64) {
    let item = json!({"name": "Ada", "email": "ada@example.com"});
    let path = format!("/data/{id}");
    for _ in 0..4 {
        let create = || server.send(Method::POST, "/data", &item);
        let created = tokio::join!(create(), create(), create(), create());
        let replace = || server.send(Method::PUT, &path, &item);
        let replaced = tokio::join!(replace(), replace(), replace(), replace());
        let list = tokio::join!(
            server.get("/data"),
            server.get("/data"),
            server.get("/data"),
            server.get("/data")
        );
        let found = tokio::join!(
            server.get(&path),
            server.get(&path),
            server.get(&path),
            server.get(&path)
        );
        for answer in [created.0, created.1, created.2, created.3] {
            assert_eq!(answer.status, 201, "{}", answer.text);
            let location = answer.header("location").to_owned();
            assert_eq!(server.delete(&location).await.status, 200);
        }
        for answers in [replaced, list, found] {
            for answer in [answers.0, answers.1, answers.2, answers.3] {
                assert_eq!(answer.status, 200, "{}", answer.text);
            }
        }
        assert_eq!(server.get("/readyz").await.status, 200);
    }
}

/// Lets sessions forget their prepared statements after each written item, as a pooler does between two clients.
fn forget_statements(database: &Database) {
    database.execute(
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN NULL; END $$;
         CREATE TRIGGER forget AFTER INSERT OR UPDATE ON items EXECUTE FUNCTION forget()",
    );
}

/// The log has these warnings, in this order, and nothing worse.
async fn logs(server: &Server, warnings: &[&str]) {
    let log = server.log_with("WARN", warnings.len()).await;
    let logged: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(logged.len(), warnings.len(), "{log}");
    for (line, warning) in logged.iter().zip(warnings) {
        assert!(line.contains(warning), "{line}");
    }
    assert!(!log.contains("ERROR"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_get_another_type_cost_no_answer() {
    let test = "columns_that_get_another_type_cost_no_answer";
    let Some((database, server, id)) = warm_server(test, &[]).await else {
        return;
    };
    logs(&server, &[]).await;
    database.execute("ALTER TABLE items ALTER COLUMN name TYPE VARCHAR(200)");
    asks_everything(&server, id).await;
    logs(&server, &[STALE]).await;
    database.execute("ALTER TABLE items ALTER COLUMN message TYPE VARCHAR(9000)");
    asks_everything(&server, id).await;
    logs(&server, &[STALE]).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_forget_their_statements_cost_no_answer() {
    let test = "sessions_that_forget_their_statements_cost_no_answer";
    let flags = ["--pool-check-after=0s"];
    let Some((database, server, id)) = warm_server(test, &flags).await else {
        return;
    };
    forget_statements(&database);
    asks_everything(&server, id).await;
    logs(
        &server,
        &["refuses the ping of a pooled connection, which is replaced"],
    )
    .await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_forget_their_statements_without_a_check_cost_no_answer() {
    let test = "sessions_that_forget_their_statements_without_a_check_cost_no_answer";
    let flags = ["--pool-check-after=1h"];
    let Some((database, server, id)) = warm_server(test, &flags).await else {
        return;
    };
    forget_statements(&database);
    asks_everything(&server, id).await;
    logs(&server, &[STALE]).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_dropped_is_told_with_503_until_it_is_there_again() {
    let test = "a_table_that_is_dropped_is_told_with_503_until_it_is_there_again";
    let Some((database, server, _)) = warm_server(test, &[]).await else {
        return;
    };
    database.execute("CREATE TABLE kept (LIKE items INCLUDING ALL); DROP TABLE items");
    for _ in 0..8 {
        assert_eq!(server.get("/data").await.status, 503);
        assert_eq!(server.get("/readyz").await.status, 503);
    }
    database.execute(
        "ALTER TABLE kept RENAME TO items;
         INSERT INTO items (name, email, created_at) VALUES ('Ada', 'ada@example.com', now());",
    );
    asks_everything(&server, 1).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_waits_for_a_row_in_vain_is_told_that_it_was_not_finished() {
    let test = "a_write_that_waits_for_a_row_in_vain_is_told_that_it_was_not_finished";
    let flags = ["--pool-timeout=300ms"];
    let Some((_, server, id)) = warm_server(test, &flags).await else {
        return;
    };
    let mut other = PgConnection::establish(&server.data().url()).unwrap();
    let lock = format!("BEGIN; SELECT 1 FROM items WHERE id = {id} FOR UPDATE");
    other.batch_execute(&lock).unwrap();
    let item = json!({"name": "Ada", "email": "ada@example.com"});
    let path = format!("/data/{id}");
    let answer = server.send(Method::PUT, &path, &item).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty());
    let detail = "The database did not finish in time. Try again later.";
    assert_eq!(answer.json()["detail"], detail, "{}", answer.text);
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(server.send(Method::PUT, &path, &item).await.status, 200);
    assert_eq!(server.stop(), Some(0));
}
