//! The real Prometheus, started for one test: scraping one server or several every second, asked through its HTTP API.
//!
//! What is asked of it is for the tests to say.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

/// How long Prometheus may take until it is ready.
const START_BOUND: Duration = Duration::from_secs(60);

/// A running Prometheus; gone with all its data when dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    child: Child,
    url: String,
    directory: TempDir,
    client: Client,
}

/// One element of an instant vector.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    /// The labels, `__name__` among them where the query keeps it.
    pub(crate) labels: BTreeMap<String, String>,
    /// The value; of a native histogram, whose value is no number, its count.
    pub(crate) value: f64,
}

impl Prometheus {
    /// Starts `binary`, which scrapes `target` (`host:port`) every second, with these further flags.
    ///
    /// Prometheus cannot choose a free port itself, so one is found for it; where another process snatches the port in
    /// between, the next one is tried.
    pub(crate) async fn start(binary: &Path, target: &str, flags: &[&str]) -> Self {
        Self::start_over(binary, &[target], flags).await
    }

    /// The same over several targets.
    pub(crate) async fn start_over(binary: &Path, targets: &[&str], flags: &[&str]) -> Self {
        let targets = targets.join("', '");
        let job = format!(
            "  - job_name: actix-vitals\n    static_configs:\n      - targets: ['{targets}']\n"
        );
        Self::start_with_jobs(binary, &job, flags).await
    }

    /// The same with these scrape configurations, as entries of a list.
    pub(crate) async fn start_with_jobs(binary: &Path, jobs: &str, flags: &[&str]) -> Self {
        for _ in 0..5 {
            if let Some(prometheus) = Self::try_start(binary, jobs, flags).await {
                return prometheus;
            }
        }
        panic!("Prometheus found no port in five tries");
    }

    async fn try_start(binary: &Path, jobs: &str, flags: &[&str]) -> Option<Self> {
        let directory = TempDir::new().expect("a temporary directory");
        let configuration = directory.path().join("prometheus.yml");
        let global = "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n";
        std::fs::write(&configuration, format!("{global}scrape_configs:\n{jobs}"))
            .expect("the configuration can be written");
        let log =
            std::fs::File::create(directory.path().join("log")).expect("the log can be written");
        let listen = free_address();
        let child = Command::new(binary)
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={listen}"))
            .arg("--log.level=warn")
            .args(flags)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Prometheus starts");
        let mut prometheus = Self {
            child,
            url: format!("http://{listen}"),
            directory,
            client: Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(10))
                .build()
                .expect("an HTTP client"),
        };
        prometheus.becomes_ready().await.then_some(prometheus)
    }

    /// Waits until it is ready; `false` when it ended instead, as it does where its port is taken.
    async fn becomes_ready(&mut self) -> bool {
        let deadline = Instant::now() + START_BOUND;
        let ready = format!("{}/-/ready", self.url);
        loop {
            if self
                .child
                .try_wait()
                .expect("a child can be waited for")
                .is_some()
            {
                println!("Prometheus ended at once:\n{}", self.log());
                return false;
            }
            if let Ok(answer) = self.client.get(&ready).send().await
                && answer.status().is_success()
            {
                return true;
            }
            assert!(
                Instant::now() < deadline,
                "Prometheus is not ready:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What Prometheus has logged (warnings and errors).
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Any part of the HTTP API; answers its `data`, or its error in Prometheus' words.
    pub(crate) async fn ask(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Value, String> {
        let answer = self
            .client
            .get(format!("{}{path}", self.url))
            .query(parameters)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let mut answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        if answer["status"] == "success" {
            Ok(answer["data"].take())
        } else {
            Err(answer["error"]
                .as_str()
                .unwrap_or("an error without a text")
                .to_owned())
        }
    }

    /// The answer to a query now: a vector's elements, or a scalar as one element without labels.
    pub(crate) async fn query(&self, promql: &str) -> Result<Vec<Element>, String> {
        let data = self.ask("/api/v1/query", &[("query", promql)]).await?;
        match data["resultType"].as_str() {
            Some("scalar") => Ok(vec![Element {
                labels: BTreeMap::new(),
                value: number(&data["result"][1])?,
            }]),
            Some("vector") => elements(&data["result"]),
            other => Err(format!("a result of type {other:?}")),
        }
    }

    /// The state of its only target: `up` once a scrape has succeeded; otherwise the reason.
    pub(crate) async fn target_is_up(&self) -> Result<(), String> {
        let data = self.ask("/api/v1/targets", &[]).await?;
        let target = &data["activeTargets"][0];
        match target["health"].as_str() {
            Some("up") => Ok(()),
            _ => Err(format!("the target: {}", target["lastError"])),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail only where it is gone already, which is what is wanted.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            println!("--- log of Prometheus\n{}---", self.log());
        }
    }
}

fn elements(result: &Value) -> Result<Vec<Element>, String> {
    let elements = result.as_array().ok_or("a vector that is no array")?;
    elements
        .iter()
        .map(|element| {
            let labels = serde_json::from_value(element["metric"].clone())
                .map_err(|error| error.to_string())?;
            let value = match element.get("histogram") {
                Some(histogram) => number(&histogram[1]["count"])?,
                None => number(&element["value"][1])?,
            };
            Ok(Element { labels, value })
        })
        .collect()
}

/// Prometheus writes numbers as strings, as JSON has neither NaN nor infinities.
fn number(value: &Value) -> Result<f64, String> {
    let text = value
        .as_str()
        .ok_or_else(|| format!("{value} is no string"))?;
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").to_string()
}
