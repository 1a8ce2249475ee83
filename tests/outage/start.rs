//! A start without a database: one sentence without a secret, and exit code 1. Also two instances that start on one empty
//! database at the same time.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};
use tempfile::TempDir;

use crate::support::postgres::{Cluster, Database, PASSWORD};
use crate::support::server::{Data as _, Server, command, run_to_end};
use crate::support::tools;

/// The advisory lock that the service migrates under: "vitals".
const MIGRATION_LOCK: i64 = 0x76_69_74_61_6c_73;

/// The line with which a start on this database ends.
fn failed_start(url: &str) -> String {
    let output = run_to_end(&["--listen", "127.0.0.1:0"], &[("DATABASE_URL", url)]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "more than one line: {stderr}");
    assert!(!stderr.contains(PASSWORD), "{stderr}");
    stderr
}

#[test]
fn a_start_without_a_server_ends_with_a_sentence() {
    let url = format!("postgres://ada:{PASSWORD}@127.0.0.1:1/vitals");
    let sentence = failed_start(&url);
    assert!(
        sentence.contains("The PostgreSQL database vitals at 127.0.0.1:1 cannot be opened")
            && sentence.contains("Connection refused"),
        "{sentence}"
    );
}

#[test]
fn no_part_of_a_password_that_is_not_encoded_is_shown() {
    for (url, secret) in [
        (
            r#"postgres://ada:pa"s3cret%zz@127.0.0.1:1/vitals"#,
            "s3cret",
        ),
        ("postgres://ada:4711?a=b@127.0.0.1:1/vitals", "4711"),
    ] {
        let output = run_to_end(&["--listen", "127.0.0.1:0"], &[("DATABASE_URL", url)]);
        let shown = [output.stdout, output.stderr].concat();
        let shown = String::from_utf8(shown).unwrap();
        assert!(!shown.contains(secret), "{shown}");
        assert!(!output.status.success(), "{shown}");
    }
}

#[tokio::test]
async fn a_start_on_a_database_that_refuses_it_ends_with_a_sentence() {
    let test = "a_start_on_a_database_that_refuses_it_ends_with_a_sentence";
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    let database = Cluster::shared(&programs).database();
    let url = database.url();
    for (url, words) in [
        (
            url.replace("tester:", "nobody:"),
            "password authentication failed",
        ),
        (
            url.replace("/test_", "/nosuch_"),
            "cannot be opened: connection to server",
        ),
        (format!("{url}?sslmode=require"), "does not support SSL"),
        (
            format!("{url}?options=-c%20default_transaction_read_only%3Don"),
            "cannot be migrated",
        ),
    ] {
        let sentence = failed_start(&url);
        assert!(sentence.contains(words), "{sentence}");
    }
}

#[tokio::test]
async fn two_that_start_on_one_empty_database_share_it() {
    let test = "two_that_start_on_one_empty_database_share_it";
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    let database = Cluster::shared(&programs).database();
    let start = || {
        let database = Arc::clone(&database);
        tokio::task::spawn_blocking(move || Server::start_on(database, &[]))
    };
    let starts = [start(), start(), start()];
    let mut servers = Vec::new();
    for server in starts {
        servers.push(server.await.unwrap());
    }
    let id = servers[0].create("Ada").await;
    for server in &servers {
        assert_eq!(server.get(&format!("/data/{id}")).await.status, 200);
    }
}

/// A session of another instance that holds the migration lock until it is dropped.
fn migration_lock_of_another(database: &Database) -> PgConnection {
    let mut other = PgConnection::establish(&database.url()).unwrap();
    let sql = format!("SELECT pg_advisory_lock({MIGRATION_LOCK})");
    other.batch_execute(&sql).unwrap();
    other
}

/// Starts the service on this database; returns once the log says that it waits for the migration lock.
fn start_that_waits(url: &str) -> (Child, BufReader<std::process::ChildStderr>) {
    let directory = TempDir::new().unwrap();
    let mut child = command(directory.path())
        .args(["--listen", "127.0.0.1:0"])
        .env("DATABASE_URL", url)
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let expected = format!(
        "waiting for the migration lock, which another instance holds (advisory lock {MIGRATION_LOCK})"
    );
    assert!(line.contains(&expected), "{line}");
    (child, stderr)
}

#[tokio::test]
async fn a_start_that_waits_for_the_migration_lock_ends_at_a_signal() {
    let test = "a_start_that_waits_for_the_migration_lock_ends_at_a_signal";
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    let database = Cluster::shared(&programs).database();
    let _other = migration_lock_of_another(&database);
    for name in ["-TERM", "-INT"] {
        let (mut child, mut stderr) = start_that_waits(&database.url());
        let pid = child.id().to_string();
        tools::run("kill".as_ref(), &[name, &pid], "/".as_ref());
        let deadline = Instant::now() + Duration::from_secs(20);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("{name} is ignored");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.lines().count(), 1, "{rest}");
        assert!(
            rest.contains("stopped before the service was ready"),
            "{rest}"
        );
    }
}

#[tokio::test]
async fn a_start_waits_for_the_migration_lock_only_so_long() {
    let test = "a_start_waits_for_the_migration_lock_only_so_long";
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    let database = Cluster::shared(&programs).database();
    let _other = migration_lock_of_another(&database);
    let url = format!("{}?options=-c%20lock_timeout%3D1s", database.url());
    let (mut child, mut stderr) = start_that_waits(&url);
    let mut sentence = String::new();
    stderr.read_to_string(&mut sentence).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let expected = "cannot be migrated: another instance has held the migration lock for 1 s.\n";
    assert!(sentence.ends_with(expected), "{sentence}");
}
