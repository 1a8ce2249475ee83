//! The answers in each stage of the shutdown: during the delay, while requests in flight finish, and at the end.

use std::process::Command;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::dsl::sql;
use diesel::sql_types::BigInt;
use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::postgres::Cluster;
use crate::support::server::{Answer, Server};
use crate::support::{tools, wait};

/// The time that a busy machine may add.
const SLACK: Duration = Duration::from_secs(10);

/// A server with a write in flight, which waits for a database lock.
struct InFlight {
    server: Server,
    ops: String,
    lock: SqliteConnection,
    write: JoinHandle<Answer>,
}

impl InFlight {
    async fn begin(mut server: Server, has_ops_listener: bool) -> Self {
        let ops = if has_ops_listener {
            server.next_address()
        } else {
            server.url("")
        };
        let mut lock = SqliteConnection::establish(server.database().to_str().unwrap()).unwrap();
        lock.batch_execute("BEGIN IMMEDIATE").unwrap();
        let write = server
            .request(Method::POST, "/data")
            .json(&json!({"name": "Ada", "email": "ada@example.com"}));
        let write = tokio::spawn(Answer::of(write));
        let url = format!("{ops}/metrics");
        // On a shared listener the scrape itself is in progress.
        let own = f64::from(u8::from(!has_ops_listener));
        wait::until("the write to be in flight", SLACK, async || {
            let scrape = fresh(&url).await.unwrap().text;
            let scrape = crate::support::exposition::Exposition::parse(&scrape).unwrap();
            let level = scrape.value("inprogress_requests", &[]);
            (level > own).then_some(()).ok_or(level)
        })
        .await;
        Self {
            server,
            ops,
            lock,
            write,
        }
    }

    /// Sends the signal, and waits until `/readyz` is 503.
    async fn shut_down(&self) {
        self.server.signal("TERM");
        self.is_not_ready().await;
    }

    async fn is_not_ready(&self) {
        let url = format!("{}/readyz", self.ops);
        wait::until("/readyz to be 503", SLACK, async || {
            let answer = fresh(&url).await.map_err(|error| error.to_string())?;
            match answer.status {
                503 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    }

    /// The ops endpoints answer until the end.
    async fn can_be_watched(&self) {
        let ready = fresh(&format!("{}/readyz", self.ops)).await.unwrap();
        assert!(ready.text.contains("shutting down"), "{}", ready.text);
        for path in ["/livez", "/metrics", "/health"] {
            let answer = fresh(&format!("{}{path}", self.ops)).await.unwrap();
            assert_eq!(answer.status, 200, "{path}");
        }
    }

    /// Releases the lock. The write is answered, and the server ends.
    async fn ends_well(mut self) {
        self.lock.batch_execute("COMMIT").unwrap();
        let answer = self.write.await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text);
        assert_eq!(self.server.ended(), Some(0));
    }
}

/// `GET` on a new connection.
async fn fresh(url: &str) -> reqwest::Result<Answer> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).send().await?;
    Ok(Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        text: answer.text().await?,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_listener_closes_and_the_ops_listener_stays_until_requests_finish() {
    let server = Server::start_with(&["--ops-listen", "127.0.0.1:0"]);
    let scene = InFlight::begin(server, true).await;
    scene.shut_down().await;
    let url = scene.server.url("/data");
    wait::until(
        "the public listener to close",
        SLACK,
        async || match fresh(&url).await {
            Err(error) if error.is_connect() => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    scene.can_be_watched().await;
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_listener_stays_open_for_the_ops_endpoints_only() {
    let scene = InFlight::begin(Server::start(), false).await;
    scene.shut_down().await;
    let url = scene.server.url("/data");
    wait::until("the API to reject requests", SLACK, async || {
        let status = fresh(&url).await.unwrap().status;
        (status == 503).then_some(()).ok_or(status)
    })
    .await;
    for path in ["/data", "/data/1", "/", "/nothing"] {
        let rejected = fresh(&scene.server.url(path)).await.unwrap();
        assert_eq!(rejected.status, 503, "{path}: {}", rejected.text);
        assert_eq!(rejected.header("content-type"), "application/problem+json");
        assert_eq!(rejected.header("connection"), "close");
        assert_eq!(rejected.header("retry-after"), "1");
        assert_eq!(rejected.header("x-content-type-options"), "nosniff");
    }
    scene.can_be_watched().await;
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_the_delay_only_readiness_changes() {
    // The readiness and the requests below are asked for within the delay.
    let delay = Duration::from_secs(5);
    let server = Server::start_with(&["--drain-delay", "5s"]);
    server.create("Ada").await;
    let signalled = Instant::now();
    server.signal("INT");
    wait::until("/readyz to be 503", SLACK, async || {
        let status = server.get("/readyz").await.status;
        (status == 503).then_some(()).ok_or(status)
    })
    .await;
    assert_eq!(fresh(&server.url("/data/1")).await.unwrap().status, 200);
    server.create("Grace").await;
    assert!(
        signalled.elapsed() < delay,
        "the machine is too busy for this test"
    );
    assert_eq!(server.ended(), Some(0));
    assert!(signalled.elapsed() >= delay);
}

/// `timeout` and some supervisors send a signal to the process and to its group, so that it comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_comes_twice_is_no_second_one() {
    let scene = InFlight::begin(Server::start(), false).await;
    let twice = format!(
        "kill -TERM {0}; sleep 0.01; kill -TERM {0}",
        scene.server.pid()
    );
    let sent = Command::new("sh").args(["-c", &twice]).status().unwrap();
    assert!(sent.success());
    scene.is_not_ready().await;
    scene.can_be_watched().await;
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let scene = InFlight::begin(Server::start(), false).await;
    scene.shut_down().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = Instant::now();
    scene.server.signal("INT");
    assert_eq!(scene.server.ended(), Some(1));
    assert!(second.elapsed() < SLACK / 2, "{:?}", second.elapsed());
    scene.write.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_cut_off_at_the_shutdown_timeout() {
    let server = Server::start_with(&["--shutdown-timeout", "700ms"]);
    let scene = InFlight::begin(server, false).await;
    let signalled = Instant::now();
    scene.shut_down().await;
    assert_eq!(scene.server.ended(), Some(0));
    let passed = signalled.elapsed();
    assert!(passed >= Duration::from_millis(700), "{passed:?}");
    assert!(
        passed < Duration::from_millis(700) + SLACK / 2,
        "{passed:?}"
    );
    scene.write.abort();
}

#[tokio::test]
async fn open_streams_end_at_shutdown() {
    let server = Server::start_with(&["--drain-delay", "1s"]);
    let mut stream = server
        .request(Method::GET, "/dashboard/stream")
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), 200);
    assert!(stream.chunk().await.unwrap().is_some());
    server.signal("TERM");
    let ended = async {
        while stream
            .chunk()
            .await
            .expect("a stream that ends well")
            .is_some()
        {}
    };
    tokio::time::timeout(SLACK, ended).await.expect("an end");
    assert_eq!(server.ended(), Some(0));
}

/// Who copies the file of a stopped server does not think of the log beside it.
#[tokio::test]
async fn after_a_shutdown_the_file_alone_has_every_write() {
    for round in 0..6 {
        let server = Server::start();
        server.create("Ada").await;
        let (directory, file) = (server.directory(), server.database());
        assert_eq!(server.stop(), Some(0));
        let copy = directory.path().join("copy.db");
        std::fs::copy(file, &copy).unwrap();
        let mut copy = SqliteConnection::establish(copy.to_str().unwrap()).unwrap();
        let items = diesel::select(sql::<BigInt>("(SELECT count(*) FROM items)"));
        let items = items.get_result::<i64>(&mut copy);
        assert_eq!(items, Ok(1), "in round {round}");
    }
}

#[tokio::test]
async fn an_idle_server_ends_at_once() {
    let server = Server::start();
    let signalled = Instant::now();
    assert_eq!(server.stop(), Some(0));
    assert!(signalled.elapsed() < SLACK / 2, "{:?}", signalled.elapsed());
}

#[tokio::test]
async fn a_server_that_still_connects_to_its_database_exits_with_0() {
    let test = "a_server_that_still_connects_to_its_database_exits_with_0";
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    let cluster = Cluster::shared(&programs);
    for _ in 0..10 {
        let server = Server::start_on(cluster.database(), &["--pool-size", "50"]);
        assert_eq!(server.stop(), Some(0));
    }
}
