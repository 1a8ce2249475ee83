//! A server of the Prometheus or VictoriaMetrics project, started for one test: in a directory of its own, on a free port.
//! Dropping it ends the process and deletes its data.
//!
//! The module of each program has its configuration and its queries.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, StatusCode};
use tempfile::TempDir;

use super::keeper::free_port;

/// How long it may take to become ready.
const START_BOUND: Duration = Duration::from_secs(60);

/// A path, and whether the status of its answer is that of a program that is ready.
pub(crate) type Readiness = (&'static str, fn(StatusCode) -> bool);

/// A running server.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    authority: String,
    directory: TempDir,
    client: Client,
}

impl Daemon {
    /// Starts the command that `command` returns for a directory and an address to listen on.
    ///
    /// The program cannot choose a free port, so this chooses one. If another process takes the port first, it tries the
    /// next one.
    pub(crate) async fn start(
        name: &'static str,
        command: impl Fn(&Path, &str) -> Command,
    ) -> Self {
        let ready: Readiness = ("/-/ready", |status| status.is_success());
        Self::start_if(name, ready, command).await
    }

    /// As [`start`](Self::start), for a program that is ready by another answer.
    pub(crate) async fn start_if(
        name: &'static str,
        ready: Readiness,
        command: impl Fn(&Path, &str) -> Command,
    ) -> Self {
        for _ in 0..5 {
            if let Some(daemon) = Self::try_start(name, ready, &command).await {
                return daemon;
            }
        }
        panic!("{name} found no port in five tries");
    }

    async fn try_start(
        name: &'static str,
        ready: Readiness,
        command: impl Fn(&Path, &str) -> Command,
    ) -> Option<Self> {
        let directory = TempDir::new().expect("a temporary directory");
        let log =
            std::fs::File::create(directory.path().join("log")).expect("the log can be written");
        let authority = format!("127.0.0.1:{}", free_port());
        let child = command(directory.path(), &authority)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let mut daemon = Self {
            name,
            child,
            authority,
            directory,
            client: Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(10))
                .build()
                .expect("an HTTP client"),
        };
        daemon.becomes_ready(ready).await.then_some(daemon)
    }

    /// Waits until it is ready. Returns `false` if it ended, which it does if its port is taken.
    async fn becomes_ready(&mut self, (path, is_ready): Readiness) -> bool {
        let deadline = Instant::now() + START_BOUND;
        loop {
            if self
                .child
                .try_wait()
                .expect("a child can be waited for")
                .is_some()
            {
                println!("{} ended at once:\n{}", self.name, self.log());
                return false;
            }
            if let Ok(answer) = self.get(path).send().await
                && is_ready(answer.status())
            {
                // Where another process has the port, that one has answered.
                return matches!(self.child.try_wait(), Ok(None));
            }
            assert!(
                Instant::now() < deadline,
                "{} is not ready:\n{}",
                self.name,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Its log.
    pub(crate) fn log(&self) -> String {
        self.file("log")
    }

    /// A file of its directory; empty if it is not there.
    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }

    /// A `GET` of a path, which the caller completes and sends.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.authority))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            println!("--- log of {}\n{}---", self.name, self.log());
        }
    }
}
