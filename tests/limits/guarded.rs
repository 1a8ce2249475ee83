//! A server with limits of the test's own, whose connections are counted apart from those that look at the counts; and a
//! connection to it, byte by byte.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::exposition::Exposition;
use crate::support::server::Server;
use crate::support::wait::until;

/// How long a count may take to become what it must be, or an answer to come.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
/// How much later than its deadline a connection may be gone.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// A server, and where its operators look.
pub(crate) struct Guarded {
    pub(crate) server: Server,
    ops: String,
    client: reqwest::Client,
}

impl Guarded {
    /// Starts a server with these limits, and a listener for its operators.
    pub(crate) fn start(limits: &[&str]) -> Self {
        let mut server = Server::start_with(&[&["--ops-listen", "127.0.0.1:0"], limits].concat());
        let ops = server.next_address();
        Self::new(server, ops)
    }

    /// Starts a server with these limits that serves its operators among all others: looks are counted too.
    pub(crate) fn start_with_one_listener(limits: &[&str]) -> Self {
        let server = Server::start_with(limits);
        let ops = server.url("");
        Self::new(server, ops)
    }

    fn new(server: Server, ops: String) -> Self {
        let client = reqwest::Client::builder()
            // Each look is a connection of its own, so that none meets one that is being closed.
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

    /// The metrics as they stand now.
    pub(crate) async fn scrape(&self) -> Exposition {
        let answer = self.client.get(format!("{}/metrics", self.ops)).send();
        let text = answer.await.expect("an answer").text().await.expect("text");
        Exposition::parse(&text).expect("a well-formed exposition")
    }

    /// `host:port` of the operators' listener.
    pub(crate) fn ops_authority(&self) -> &str {
        self.ops.trim_start_matches("http://")
    }

    /// The requests that were answered, by status.
    pub(crate) async fn answered(&self) -> BTreeMap<String, u64> {
        let mut answered = BTreeMap::new();
        for (labels, count) in self.scrape().await.series("http_requests_total") {
            *answered.entry(labels["http_status"].clone()).or_default() += count as u64;
        }
        answered.retain(|_, count| *count > 0);
        answered
    }

    /// Connections that ended so.
    pub(crate) async fn ended(&self, outcome: &str) -> u64 {
        let count = self
            .scrape()
            .await
            .value("http_connections_total", &[("outcome", outcome)]);
        count as u64
    }

    /// Connections that ended in one of these ways.
    pub(crate) async fn ended_in(&self, outcomes: &[&str]) -> u64 {
        let counted = self.outcomes().await;
        let of_these = counted
            .iter()
            .filter(|(outcome, _)| outcomes.contains(&outcome.as_str()));
        of_these.map(|(_, count)| count).sum()
    }

    /// Waits until so many connections ended in one of these ways.
    pub(crate) async fn wait_for(&self, outcomes: &[&str], count: u64) {
        until(&format!("{count} of {outcomes:?}"), BOUND, || async {
            match self.ended_in(outcomes).await {
                ended if ended >= count => Ok(()),
                ended => Err(format!("{ended}; {:?}", self.outcomes().await)),
            }
        })
        .await;
    }

    /// Waits until no connection is left.
    pub(crate) async fn wait_for_quiet(&self) {
        until("the last connection to go", BOUND, || async {
            match self.scrape().await.value("http_connections_active", &[]) {
                0.0 => Ok(()),
                active => Err(format!("{active} are active")),
            }
        })
        .await;
    }

    /// Waits until no request is in progress but the look itself, where that is one.
    pub(crate) async fn wait_for_settled(&self) {
        until("the last request to be settled", BOUND, || async {
            match self.scrape().await.value("inprogress_requests", &[]) {
                level if level <= 1.0 => Ok(()),
                level => Err(format!("{level} are in progress")),
            }
        })
        .await;
    }

    /// Every outcome that has happened.
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

/// A connection, byte by byte.
pub(crate) struct Raw {
    stream: TcpStream,
    /// When something was sent last, or the connection was made.
    sent: Instant,
}

/// What came over a connection until its end.
#[derive(Debug)]
pub(crate) struct Ended {
    /// All of it; invalid UTF-8 is replaced.
    pub(crate) text: String,
    /// How long after the last thing that was sent the end came.
    pub(crate) after: Duration,
}

impl Raw {
    pub(crate) async fn to(authority: &str) -> Self {
        let stream = TcpStream::connect(authority).await.expect("a connection");
        Self {
            stream,
            sent: Instant::now(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that has refused it already may have closed.
        let _refused = self.stream.write_all(bytes.as_ref()).await;
        self.sent = Instant::now();
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn hang_up(&mut self) {
        // A server that has answered already may have closed.
        let _gone = self.stream.shutdown().await;
    }

    /// Reads until `end` has come.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.contains(end) {
            let read = tokio::time::timeout(BOUND, self.stream.read(&mut buffer)).await;
            let count = read.expect("it comes in time").expect("it can be read");
            assert!(count > 0, "it ended after {text:?}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        text
    }

    /// Sends and reads at the same time, until the server closes or resets the connection; all that came.
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
