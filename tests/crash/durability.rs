//! The order of system calls of a write to SQLite: the sync of the write-ahead log ends before the answer begins.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::server::Server;
use crate::support::strace::Tracer;
use crate::support::writers::{Books, Writers, lock};

/// The calls that write to a file or a socket, or sync a file.
const CALLS: &str = "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync";

/// The arguments of the write of the log's header. It has a sync of its own, and commits nothing.
const LOG_HEADER: &str = ", 32, 0)";

/// An event of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A successful sync of new writes to the log ended.
    Synced,
    /// An answer of 2xx began.
    Acknowledged,
}

/// Parses the output of strace. An interrupted call has two lines: the end of a sync counts, and the start of an answer.
fn events(trace: &str) -> Vec<Event> {
    let mut syncing = BTreeSet::new();
    let mut unsynced = false;
    let mut events = Vec::new();
    for line in trace.lines() {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(_time)) = (words.next(), words.next()) else {
            continue;
        };
        let call = words.collect::<Vec<_>>().join(" ");
        let of_log = call.contains("-wal>");
        let is_sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        if call.contains("\"HTTP/1.1 20") {
            events.push(Event::Acknowledged);
        } else if is_sync && of_log && call.ends_with("<unfinished ...>") {
            syncing.insert(thread.to_owned());
        } else if (is_sync && of_log) || (call.contains("sync resumed>") && syncing.remove(thread))
        {
            if unsynced && call.ends_with("= 0") {
                events.push(Event::Synced);
                unsynced = false;
            }
        } else if of_log && !call.contains("resumed>") && !call.contains(LOG_HEADER) {
            unsynced = true;
        }
    }
    events
}

/// The smallest difference of syncs and answers at the start of an answer.
fn least_lead(events: &[Event]) -> i64 {
    let (mut lead, mut least) = (0, i64::MAX);
    for event in events {
        match event {
            Event::Synced => lead += 1,
            Event::Acknowledged => {
                lead -= 1;
                least = least.min(lead);
            }
        }
    }
    least
}

#[test]
fn an_answer_before_its_sync_is_detected() {
    let synced = "7 1.0 pwrite64(9</d/vitals.db-wal>, \"\", 9, 0) = 9
7 1.1 fdatasync(9</d/vitals.db-wal> <unfinished ...>
8 1.2 sendto(11<socket:[1]>, \"HTTP/1.1 503 Service\"..., 9, 0) = 9
7 1.3 <... fdatasync resumed>) = 0
8 1.4 sendto(11<socket:[1]>, \"HTTP/1.1 201 Created\"..., 9, 0) = 9";
    assert_eq!(least_lead(&events(synced)), 0);
    let early = synced.replace("503 Service", "201 Created");
    assert_eq!(least_lead(&events(&early)), -1);
    let failed = synced.replace("= 0\n8", "= -1 EIO (Input/output error)\n8");
    assert_eq!(least_lead(&events(&failed)), -1);
    let in_one_line = "7 1.0 write(9</d/vitals.db-wal>, \"\", 9) = 9
7 1.1 fsync(9</d/vitals.db-wal>) = 0
8 1.4 writev(11<socket:[1]>, [{iov_base=\"HTTP/1.1 200 OK\"...}], 9) = 9";
    assert_eq!(events(in_one_line), [Event::Synced, Event::Acknowledged]);
    let header = in_one_line.replace(", 9) = 9\n", ", 32, 0) = 32\n");
    assert_eq!(events(&header), [Event::Acknowledged]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wal_is_synced_before_a_write_is_acknowledged() {
    let test = "the_wal_is_synced_before_a_write_is_acknowledged";
    // The default settings: no flag turns it on.
    let server = Server::start();
    let directory = server.directory();
    let trace = ["-e", CALLS];
    let Some(tracer) = Tracer::attach(test, server.pid(), &trace, directory.path()) else {
        return;
    };
    let id = server.create("Ada").await;
    let item = json!({"name": "Grace", "email": "grace@example.com"});
    let path = format!("/data/{id}");
    assert_eq!(server.send(Method::PUT, &path, &item).await.status, 200);
    assert_eq!(server.delete(&path).await.status, 200);
    let alone = events(&tracer.detach());
    assert_eq!(alone, [Event::Synced, Event::Acknowledged].repeat(3));

    let tracer = Tracer::attach(test, server.pid(), &trace, directory.path()).unwrap();
    let books = Arc::new(Mutex::new(Books::default()));
    let writers = Writers::start(&server.url(""), &books, 8, 8);
    tokio::time::sleep(Duration::from_secs(1)).await;
    writers.stop().await;
    let crowded = events(&tracer.detach());
    let acknowledged = crowded
        .iter()
        .filter(|event| **event == Event::Acknowledged)
        .count();
    println!("{acknowledged} acknowledged writes of eight writers");
    assert_eq!(acknowledged as u64, lock(&books).acknowledged);
    assert!(acknowledged > 8, "{crowded:?}");
    assert!(least_lead(&crowded) >= 0, "{crowded:?}");
}
