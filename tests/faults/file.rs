//! A database file that is read-only, corrupt, locked, or of somebody else: at the start a sentence, later a 503.

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

use crate::faults::refusal;
use crate::support::server::{Answer, Server};
use crate::support::wait;

fn execute(database: &Path, sql: &str) -> SqliteConnection {
    let mut connection = SqliteConnection::establish(database.to_str().unwrap()).unwrap();
    connection.batch_execute(sql).unwrap();
    connection
}

/// A database of the service, at rest.
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
fn a_read_only_file_ends_the_start_with_a_sentence() {
    let directory = database();
    let file = directory.path().join("vitals.db");
    may(&file, 0o444);
    let sentence = refusal(&file);
    assert!(sentence.contains("readonly database"), "{sentence}");

    may(&file, 0o000);
    let sentence = refusal(&file);
    assert!(sentence.contains("cannot be opened"), "{sentence}");

    may(&file, 0o644);
    may(directory.path(), 0o555);
    let sentence = refusal(&file);
    assert!(
        sentence.contains("cannot be used: unable to open database file")
            || sentence.contains("readonly database"),
        "{sentence}"
    );
    let sentence = refusal(&directory.path().join("new.db"));
    assert!(sentence.contains("cannot be opened"), "{sentence}");
    may(directory.path(), 0o755);
}

#[test]
fn a_file_that_is_no_database_ends_the_start_with_a_sentence() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("vitals.db");
    fs::write(&file, "This is not a database. ".repeat(100)).unwrap();
    let sentence = refusal(&file);
    assert!(sentence.contains("file is not a database"), "{sentence}");
    assert_eq!(fs::read(&file).unwrap().len(), 2400, "it was left alone");
}

#[test]
fn a_migration_that_fails_ends_the_start_with_a_sentence_and_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("vitals.db");
    execute(
        &file,
        "CREATE TABLE items (id TEXT); INSERT INTO items VALUES ('7')",
    );
    for _ in 0..2 {
        let sentence = refusal(&file);
        assert!(
            sentence.contains("cannot be migrated") && sentence.contains("items already exists"),
            "{sentence}"
        );
    }
    // Nobody's table is gone, and the rest of the migration can be made anew.
    execute(
        &file,
        "INSERT INTO items VALUES ('8'); CREATE INDEX items_newest_first ON items (id)",
    );
}

#[test]
fn a_file_that_is_locked_for_too_long_ends_the_start_with_a_sentence() {
    let directory = database();
    let file = directory.path().join("vitals.db");
    let _held = execute(&file, "BEGIN EXCLUSIVE");
    let sentence = refusal(&file);
    assert!(sentence.contains("database is locked"), "{sentence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_another_process_is_waited_for_and_then_told() {
    let server = Server::start();
    let mut held = execute(&server.database(), "BEGIN IMMEDIATE");
    let item = json!({"name": "Ada", "email": "ada@example.com"});
    let write = || async {
        let write = server.send(Method::POST, "/data", &item);
        tokio::time::timeout(Duration::from_secs(20), write)
            .await
            .expect("an answer")
    };
    let (refused, read) = tokio::join!(write(), server.get("/data"));
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(read.status, 200, "readers do not wait for a writer");

    let (accepted, ()) = tokio::join!(write(), async {
        held.batch_execute("COMMIT").unwrap();
    });
    assert_eq!(accepted.status, 201, "{}", accepted.text);
}

#[tokio::test]
async fn a_file_that_is_corrupt_within_is_told_with_503_until_it_is_mended() {
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
    let sound = fs::read(&file).unwrap();
    // All but what tells of the tables.
    let kept = 4 * 4096;
    let mut open = fs::File::options().write(true).open(&file).unwrap();
    open.seek(SeekFrom::Start(kept)).unwrap();
    open.write_all(&vec![0xff; sound.len() - usize::try_from(kept).unwrap()])
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
    let log = server.stderr();
    assert!(log.contains("database disk image is malformed"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    server.kill();

    for left in ["vitals.db-wal", "vitals.db-shm"] {
        let _gone = fs::remove_file(directory.path().join(left));
    }
    fs::write(&file, sound).unwrap();
    let server = Server::start_in(Arc::clone(&directory), &[]);
    assert_eq!(server.get("/data/1000").await.status, 200);
}

/// Writes are refused, and `/readyz` is 503, within two seconds of what has just been done to the file; reads are served.
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
    wait::until("the line", Duration::from_secs(10), async || {
        let log = server.stderr();
        let found = log
            .matches("was removed or replaced: writes are refused")
            .count();
        (found == lines).then_some(()).ok_or(log)
    })
    .await;
    assert_eq!(server.stderr().matches("ERROR").count(), lines);
}

#[tokio::test]
async fn a_file_that_is_removed_takes_no_more_writes() {
    let server = Server::start();
    server.create("Ada").await;
    fs::remove_file(server.database()).unwrap();
    // Without any request that would notice it.
    logs_the_loss(&server, 1).await;
    is_lost(&server).await;
    logs_the_loss(&server, 1).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_file_that_is_replaced_takes_no_more_writes_until_it_is_back() {
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
        assert!(server.stderr().contains("the database file is back"));
        assert_eq!(server.stop(), Some(0));
    }
}

#[tokio::test]
async fn a_write_ahead_log_that_is_removed_takes_no_more_writes() {
    let server = Server::start();
    server.create("Ada").await;
    let log = format!("{}-wal", server.database().display());
    fs::remove_file(log).unwrap();
    is_lost(&server).await;
    logs_the_loss(&server, 1).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_link_to_the_database_that_leads_elsewhere_takes_no_more_writes() {
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
