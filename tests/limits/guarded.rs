//! A server with limits that the test sets, and raw connections to it.
//!
//! Scrapes use the ops listener, so that they do not change the counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::exposition::Exposition;
use crate::support::server::Server;
use crate::support::wait::until;

/// The longest wait for an answer, or for a count to reach its value.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
/// How long after its deadline a connection may end on a busy machine. With the deadlines of the tests, that is before all
/// defaults, of which the shortest is ten seconds.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// A server with limits, and the address of its ops endpoints.
pub(crate) struct Guarded {
    pub(crate) server: Server,
    ops: String,
    client: reqwest::Client,
}

impl Guarded {
    /// Starts a server with these limits and an ops listener.
    pub(crate) fn start(limits: &[&str]) -> Self {
        let mut server = Server::start_with(&[&["--ops-listen", "127.0.0.1:0"], limits].concat());
        let ops = server.next_address();
        Self::new(server, ops)
    }

    /// Starts a server with these limits and one shared listener. Scrapes are counted too.
    pub(crate) fn start_with_one_listener(limits: &[&str]) -> Self {
        let server = Server::start_with(limits);
        let ops = server.url("");
        Self::new(server, ops)
    }

    fn new(server: Server, ops: String) -> Self {
        let client = reqwest::Client::builder()
            // Each scrape opens a connection, so that none uses one that is being closed.
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()
            .expect("an HTTP client");
        Self {
            server,
            ops,
            client,
        }
    }

    /// Scrapes the metrics.
    pub(crate) async fn scrape(&self) -> Exposition {
        let answer = self.client.get(format!("{}/metrics", self.ops)).send();
        let text = answer.await.expect("an answer").text().await.expect("text");
        Exposition::parse(&text).expect("a well-formed exposition")
    }

    /// `host:port` of the ops listener.
    pub(crate) fn ops_authority(&self) -> &str {
        self.ops.trim_start_matches("http://")
    }

    /// The number of answered requests by status.
    pub(crate) async fn answered(&self) -> BTreeMap<String, u64> {
        let mut answered = BTreeMap::new();
        for (labels, count) in self.scrape().await.series("http_requests_total") {
            *answered.entry(labels["http_status"].clone()).or_default() += count as u64;
        }
        answered.retain(|_, count| *count > 0);
        answered
    }

    /// The number of connections with this outcome.
    pub(crate) async fn ended(&self, outcome: &str) -> u64 {
        let count = self
            .scrape()
            .await
            .value("http_connections_total", &[("outcome", outcome)]);
        count as u64
    }

    /// The number of connections with one of these outcomes.
    pub(crate) async fn ended_in(&self, outcomes: &[&str]) -> u64 {
        let counted = self.outcomes().await;
        let of_these = counted
            .iter()
            .filter(|(outcome, _)| outcomes.contains(&outcome.as_str()));
        of_these.map(|(_, count)| count).sum()
    }

    /// Waits until `count` connections have one of these outcomes.
    pub(crate) async fn wait_for(&self, outcomes: &[&str], count: u64) {
        until(&format!("{count} of {outcomes:?}"), BOUND, || async {
            match self.ended_in(outcomes).await {
                ended if ended >= count => Ok(()),
                ended => Err(format!("{ended}; {:?}", self.outcomes().await)),
            }
        })
        .await;
    }

    /// Waits until no connection is open.
    pub(crate) async fn wait_for_quiet(&self) {
        until("the last connection to go", BOUND, || async {
            match self.scrape().await.value("http_connections_active", &[]) {
                0.0 => Ok(()),
                active => Err(format!("{active} are active")),
            }
        })
        .await;
    }

    /// Waits until no request is in progress, except for the scrape itself on a shared listener.
    pub(crate) async fn wait_for_settled(&self) {
        until("the last request to be settled", BOUND, || async {
            match self.scrape().await.value("inprogress_requests", &[]) {
                level if level <= 1.0 => Ok(()),
                level => Err(format!("{level} are in progress")),
            }
        })
        .await;
    }

    /// The outcomes that were counted.
    pub(crate) async fn outcomes(&self) -> Vec<(String, u64)> {
        self.scrape()
            .await
            .series("http_connections_total")
            .into_iter()
            .filter(|(_, count)| *count > 0.0)
            .map(|(labels, count)| (labels["outcome"].clone(), count as u64))
            .collect()
    }

    /// A connection to the API.
    pub(crate) async fn connect(&self) -> Raw {
        Raw::to(self.server.authority()).await
    }
}

/// A raw connection.
pub(crate) struct Raw {
    stream: TcpStream,
    /// Just before bytes were last sent, or the connection was opened: no time limit of the server begins earlier.
    sent: Instant,
}

/// The bytes of a connection until its end.
#[derive(Debug)]
pub(crate) struct Ended {
    /// All bytes; invalid UTF-8 is replaced.
    pub(crate) text: String,
    /// The time from the last sent bytes to the end, at least as long as the server waited.
    pub(crate) after: Duration,
}

impl Raw {
    pub(crate) async fn to(authority: &str) -> Self {
        let sent = Instant::now();
        let stream = TcpStream::connect(authority).await.expect("a connection");
        Self { stream, sent }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.sent = Instant::now();
        // The server may have rejected and closed the connection already.
        let _refused = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Closes the sending half.
    pub(crate) async fn hang_up(&mut self) {
        // The server may have closed the connection already.
        let _gone = self.stream.shutdown().await;
    }

    /// Reads until `end` has arrived.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.contains(end) {
            let read = tokio::time::timeout(BOUND, self.stream.read(&mut buffer)).await;
            let count = read.expect("it arrives in time").expect("it can be read");
            assert!(count > 0, "it ended after {text:?}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        text
    }

    /// Sends and reads at the same time, until the server closes or resets the connection. Returns all bytes.
    pub(crate) async fn exchange(mut self, bytes: impl AsRef<[u8]>) -> String {
        let (mut reading, mut writing) = self.stream.split();
        let mut answers = Vec::new();
        let both = async {
            tokio::join!(
                writing.write_all(bytes.as_ref()),
                reading.read_to_end(&mut answers),
            )
        };
        let _closed_or_reset = tokio::time::timeout(BOUND, both).await.expect("an end");
        String::from_utf8_lossy(&answers).into_owned()
    }

    /// Reads until the server closes or resets the connection.
    pub(crate) async fn end(mut self) -> Ended {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(BOUND, self.stream.read_to_end(&mut bytes)).await;
        let _closed_or_reset = read.expect("the server ends the connection");
        Ended {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            after: self.sent.elapsed(),
        }
    }
}
