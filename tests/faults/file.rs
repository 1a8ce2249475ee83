//! A database file that is read-only, corrupt, locked or foreign: an error message at the start, later a 503.

use std::fs::{self, Permissions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::faults::start_error;
use crate::support::server::{Answer, Server};
use crate::support::wait;

fn execute(database: &Path, sql: &str) -> SqliteConnection {
    let mut connection = SqliteConnection::establish(database.to_str().unwrap()).unwrap();
    connection.batch_execute(sql).unwrap();
    connection
}

/// A database of the service, which no process uses.
fn database() -> TempDir {
    let server = Server::start();
    let directory = server.directory();
    assert_eq!(server.stop(), Some(0));
    Arc::into_inner(directory).unwrap()
}

fn may(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_read_only_file_fails_the_start_with_a_message() {
    let directory = database();
    let file = directory.path().join("vitals.db");
    may(&file, 0o444);
    let sentence = start_error(&file);
    assert!(sentence.contains("readonly database"), "{sentence}");

    may(&file, 0o000);
    let sentence = start_error(&file);
    assert!(sentence.contains("cannot be opened"), "{sentence}");

    may(&file, 0o644);
    may(directory.path(), 0o555);
    let sentence = start_error(&file);
    assert!(
        sentence.contains("cannot be used: unable to open database file")
            || sentence.contains("readonly database"),
        "{sentence}"
    );
    let sentence = start_error(&directory.path().join("new.db"));
    assert!(sentence.contains("cannot be opened"), "{sentence}");
    may(directory.path(), 0o755);
}

#[test]
fn a_file_that_is_not_a_database_fails_the_start_with_a_message() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("vitals.db");
    fs::write(&file, "This is not a database. ".repeat(100)).unwrap();
    let sentence = start_error(&file);
    assert!(sentence.contains("file is not a database"), "{sentence}");
    assert_eq!(fs::read(&file).unwrap().len(), 2400, "the file was changed");
}

#[test]
fn a_failed_migration_fails_the_start_with_a_message_and_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("vitals.db");
    execute(
        &file,
        "CREATE TABLE items (id TEXT); INSERT INTO items VALUES ('7')",
    );
    for _ in 0..2 {
        let sentence = start_error(&file);
        assert!(
            sentence.contains("cannot be migrated") && sentence.contains("items already exists"),
            "{sentence}"
        );
    }
    // The existing table remains, and the migration left nothing behind.
    execute(
        &file,
        "INSERT INTO items VALUES ('8'); CREATE INDEX items_newest_first ON items (id)",
    );
}

#[test]
fn a_file_that_stays_locked_fails_the_start_with_a_message() {
    let directory = database();
    let file = directory.path().join("vitals.db");
    let _held = execute(&file, "BEGIN EXCLUSIVE");
    let sentence = start_error(&file);
    assert!(sentence.contains("database is locked"), "{sentence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_waits_for_the_lock_of_another_process_and_then_gets_503() {
    let server = Server::start();
    let mut held = execute(&server.database(), "BEGIN IMMEDIATE");
    let item = json!({"name": "Ada", "email": "ada@example.com"});
    let write = || async {
        let write = server.send(Method::POST, "/data", &item);
        tokio::time::timeout(Duration::from_secs(20), write)
            .await
            .expect("an answer")
    };
    let (rejected, read) = tokio::join!(write(), server.get("/data"));
    assert_eq!(rejected.status, 503, "{}", rejected.text);
    assert_eq!(rejected.header("retry-after"), "1");
    assert_eq!(read.status, 200, "readers do not wait for a writer");

    let (accepted, ()) = tokio::join!(write(), async {
        held.batch_execute("COMMIT").unwrap();
    });
    assert_eq!(accepted.status, 201, "{}", accepted.text);
}

#[tokio::test]
async fn a_corrupt_file_is_answered_503_until_it_is_restored() {
    let directory = Arc::new(database());
    let file = directory.path().join("vitals.db");
    let values: Vec<_> = (0..2000)
        .map(|item| format!("('item {item}', 'a@example.com', '2026-01-01 00:00:00.000000')"))
        .collect();
    let sql = format!(
        "INSERT INTO items (name, email, created_at) VALUES {}; PRAGMA wal_checkpoint(TRUNCATE)",
        values.join(", ")
    );
    drop(execute(&file, &sql));
    let intact = fs::read(&file).unwrap();
    // Everything but the schema is overwritten.
    let kept = 4 * 4096;
    let mut open = fs::File::options().write(true).open(&file).unwrap();
    open.seek(SeekFrom::Start(kept)).unwrap();
    open.write_all(&vec![0xff; intact.len() - usize::try_from(kept).unwrap()])
        .unwrap();

    let server = Server::start_in(Arc::clone(&directory), &[]);
    let is_unusable = |answer: Answer| {
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(!answer.text.contains("malformed"), "{}", answer.text);
    };
    is_unusable(server.get("/data").await);
    is_unusable(server.get("/data/1000").await);
    is_unusable(server.delete("/data/1000").await);
    assert_eq!(server.get("/livez").await.status, 200);
    assert_eq!(server.get("/metrics").await.status, 200);
    let log = server.log_with("database disk image is malformed", 1).await;
    assert!(!log.contains("panicked"), "{log}");
    server.kill();

    for left in ["vitals.db-wal", "vitals.db-shm"] {
        let _gone = fs::remove_file(directory.path().join(left));
    }
    fs::write(&file, intact).unwrap();
    let server = Server::start_in(Arc::clone(&directory), &[]);
    assert_eq!(server.get("/data/1000").await.status, 200);
}

/// Writes are rejected and `/readyz` is 503 at once after the file was removed or replaced. Reads are served.
async fn is_lost(server: &Server) {
    let item = json!({"name": "Ada", "email": "ada@example.com"});
    for (method, path) in [(Method::POST, "/data"), (Method::PUT, "/data/1")] {
        let answer = server.send(method, path, &item).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.header("retry-after"), "1");
        assert!(!answer.text.contains("vitals.db"), "{}", answer.text);
    }
    assert_eq!(server.delete("/data/1").await.status, 503);
    assert_eq!(server.get("/readyz").await.status, 503);
    assert_eq!(server.get("/livez").await.status, 200);
    assert_eq!(server.get("/data/1").await.status, 200);
}

/// Waits until the log has this many lines about the lost file, and no other error.
async fn logs_the_loss(server: &Server, lines: usize) {
    wait::until("the line", Duration::from_secs(30), async || {
        let log = server.stderr();
        let found = log
            .matches("was removed or replaced: writes are refused")
            .count();
        (found == lines).then_some(()).ok_or(log)
    })
    .await;
    assert_eq!(server.stderr().matches("ERROR").count(), lines);
}

/// Looks at a statement until its plan was asked for. That may open a connection, which would create what was removed.
async fn is_explained(server: &Server) {
    let listed = server.get("/ops/statements").await.json();
    let path = format!("/ops/statements/{}", listed["statements"][0]["id"]);
    wait::until("a question", Duration::from_secs(60), async || {
        let plan = server.get(&path).await.json()["plan"].clone();
        (plan["reason"] != "the database has not been asked yet")
            .then_some(())
            .ok_or(plan)
    })
    .await;
}

#[tokio::test]
async fn writes_to_a_removed_file_are_rejected() {
    let server = Server::start();
    server.create("Ada").await;
    fs::remove_file(server.database()).unwrap();
    // No request is needed to notice it.
    logs_the_loss(&server, 1).await;
    is_lost(&server).await;
    is_explained(&server).await;
    assert!(!server.database().exists());
    is_lost(&server).await;
    logs_the_loss(&server, 1).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn writes_to_a_replaced_file_are_rejected_until_it_is_back() {
    for flags in [&["--pool-size=1"][..], &["--pool-size=5"]] {
        let server = Server::start_with(flags);
        server.create("Ada").await;
        let (file, aside) = (server.database(), server.directory().path().join("aside"));
        fs::rename(&file, &aside).unwrap();
        fs::copy(&aside, &file).unwrap();
        is_lost(&server).await;
        logs_the_loss(&server, 1).await;
        fs::rename(&aside, &file).unwrap();
        server.create("Grace").await;
        assert_eq!(server.get("/readyz").await.status, 200);
        server.log_with("the database file is back", 1).await;
        assert_eq!(server.stop(), Some(0));
    }
}

#[tokio::test]
async fn writes_to_a_removed_wal_are_rejected() {
    let server = Server::start();
    server.create("Ada").await;
    let log = format!("{}-wal", server.database().display());
    fs::remove_file(&log).unwrap();
    is_lost(&server).await;
    is_explained(&server).await;
    assert!(!fs::exists(log).unwrap());
    is_lost(&server).await;
    logs_the_loss(&server, 1).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn writes_through_a_redirected_link_are_rejected() {
    let directory = Arc::new(TempDir::new().unwrap());
    let [here, there, link] =
        ["here.db", "there.db", "vitals.db"].map(|name| directory.path().join(name));
    fs::write(&here, "").unwrap();
    fs::write(&there, "").unwrap();
    std::os::unix::fs::symlink(&here, &link).unwrap();
    let server = Server::start_in(directory, &[]);
    server.create("Ada").await;
    assert_eq!(server.get("/readyz").await.status, 200);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&there, &link).unwrap();
    is_lost(&server).await;
    assert_eq!(server.stop(), Some(0));
}
