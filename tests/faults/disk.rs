//! A full disk, and one that fails, under eight writers: acknowledged writes exist, others are answered 503, and writes
//! succeed again when the fault ends.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::random;
use reqwest::Method;
use serde_json::json;

use crate::faults::limit;
use crate::support::server::Server;
use crate::support::strace::Tracer;
use crate::support::writers::{Books, Writers, items_of, lock};
use crate::support::{tools, wait};

const WRITERS: u64 = 8;

/// The time within which a fault, or its end, must have an effect. It is generous for a busy machine.
const BOUND: Duration = Duration::from_secs(30);

/// A server with eight writers at work.
struct Scene {
    server: Server,
    books: Arc<Mutex<Books>>,
    writers: Writers,
}

impl Scene {
    async fn set() -> Self {
        let server = Server::start();
        let books = Arc::new(Mutex::new(Books::default()));
        let writers = Writers::start(&server.url(""), &books, WRITERS, random());
        let scene = Self {
            server,
            books,
            writers,
        };
        scene.writes().await;
        scene
    }

    /// Waits until `count` has risen by `more`.
    async fn counts(&self, what: &str, more: u64, count: fn(&Books) -> u64) {
        let before = count(&lock(&self.books));
        wait::until(what, BOUND, async || {
            let now = count(&lock(&self.books));
            (now >= before + more).then_some(()).ok_or(now)
        })
        .await;
    }

    async fn writes(&self) {
        self.counts("acknowledged writes", 40, |books| books.acknowledged)
            .await;
    }

    /// Waits until writes are rejected. Other endpoints still answer.
    async fn fails(&self) {
        self.counts("rejected writes", 16, |books| books.refused)
            .await;
        for path in ["/livez", "/metrics"] {
            assert_eq!(self.server.get(path).await.status, 200, "{path}");
        }
    }

    /// A write that cannot be stored is answered with a problem document.
    async fn rejects_with_a_problem(&self) {
        let item = json!({"name": "Ada", "email": "ada@example.com"});
        let answer = self.server.send(Method::POST, "/data", &item).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.header("retry-after"), "1");
        assert!(!answer.text.contains("vitals.db"), "{}", answer.text);
    }

    /// Stops the writers, and compares the data with their records: now, and after a crash.
    async fn ends_well(self) {
        self.writers.stop().await;
        let found = items_of(&self.server.url("")).await;
        assert_eq!(lock(&self.books).differences(&found), [""; 0]);
        let errors = self.server.scrape().await.sum("db_query_errors_total", &[]);
        assert!(errors > 0.0, "no error was counted");
        let log = self.server.stderr();
        assert!(!log.contains("panicked"), "{log}");

        let directory = self.server.directory();
        self.server.kill();
        let again = Server::start_in(directory, &[]);
        let found = items_of(&again.url("")).await;
        let mut books = lock(&self.books);
        assert_eq!(books.differences(&found), [""; 0], "after a crash");
        assert_eq!(books.unanswered, 0);
        println!(
            "{} writes acknowledged, {} rejected",
            books.acknowledged, books.refused
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_loses_no_acknowledged_write() {
    let test = "a_disk_that_fails_loses_no_acknowledged_write";
    let scene = Scene::set().await;
    let directory = scene.server.directory();
    let file = scene.server.database();
    let log = PathBuf::from(format!("{}-wal", file.display()));
    for (calls, fails, on) in [
        // A disk that is full, permanently and now and then.
        ("pwrite64", "error=ENOSPC", &log),
        ("pwrite64", "error=ENOSPC:when=3+5", &log),
        // A disk that fails to write, to sync, or to read.
        ("pwrite64", "error=EIO:when=2+7", &log),
        ("fsync,fdatasync", "error=EIO", &log),
        ("fsync,fdatasync", "error=EIO:when=2+3", &log),
        ("pread64", "error=EIO:when=1+2", &log),
        ("pread64,pwrite64,fsync", "error=EIO:when=5+5", &file),
    ] {
        let inject = format!("inject={calls}:{fails}");
        let trace = format!("trace={calls}");
        let path = on.display().to_string();
        let arguments = ["-e", &trace, "-e", &inject, "-P", &path];
        let pid = scene.server.pid();
        let Some(tracer) = Tracer::attach(test, pid, &arguments, directory.path()) else {
            return;
        };
        // The file itself is only written by a checkpoint, which no request waits for.
        if on == &log && calls != "pread64" {
            scene.fails().await;
        } else {
            scene.writes().await;
        }
        if !fails.contains("when") {
            scene.rejects_with_a_problem().await;
        }
        let seen = tracer.detach();
        println!("{inject}: {} times", seen.matches("(INJECTED)").count());
        scene.writes().await;
    }
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_grow_loses_no_acknowledged_write() {
    let test = "a_file_that_cannot_grow_loses_no_acknowledged_write";
    let Some(prlimit) = tools::tool(test, "prlimit") else {
        return;
    };
    let scene = Scene::set().await;
    for bytes in [0, 4096, 100_000] {
        limit(&prlimit, scene.server.pid(), &format!("--fsize={bytes}:"));
        scene.fails().await;
        scene.rejects_with_a_problem().await;
        limit(&prlimit, scene.server.pid(), "--fsize=unlimited:");
        scene.writes().await;
    }
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unwritable_disk_is_not_ready_even_without_writes() {
    let test = "an_unwritable_disk_is_not_ready_even_without_writes";
    let Some(prlimit) = tools::tool(test, "prlimit") else {
        return;
    };
    let server = Server::start();
    let becomes = async |status: u16| {
        wait::until(&format!("/readyz to be {status}"), BOUND, async || {
            let answer = server.get("/readyz").await;
            (answer.status == status).then_some(()).ok_or(answer.text)
        })
        .await;
    };
    becomes(200).await;
    limit(&prlimit, server.pid(), "--fsize=0:");
    becomes(503).await;
    assert_eq!(server.get("/data").await.status, 200, "reads are served");
    assert_eq!(server.get("/readyz").await.status, 503);
    limit(&prlimit, server.pid(), "--fsize=unlimited:");
    becomes(200).await;
    // The log is read on another thread.
    let log = wait::until("the last line", Duration::from_secs(10), async || {
        let log = server.stderr();
        let is_there = log.contains("passes its health check again");
        if is_there { Ok(log) } else { Err(log) }
    })
    .await;
    for line in [
        "the database fails a health check pool=\"writers\" error=",
        "the database passes its health check again pool=\"writers\"",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_is_ready_while_another_process_writes() {
    use diesel::connection::SimpleConnection as _;
    use diesel::{Connection as _, SqliteConnection};

    let server = Server::start();
    let mut other = SqliteConnection::establish(server.database().to_str().unwrap()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}
