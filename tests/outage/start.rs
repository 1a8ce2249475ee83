//! Starting where there is no database to start on: one sentence and exit code 1, with no secret in it. And two that start
//! on one empty database at once.

use std::sync::Arc;

use crate::postgres::{Cluster, PASSWORD};
use crate::server::{Data as _, Server, run_to_end};
use crate::tools;

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
