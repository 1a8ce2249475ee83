//! An OpenTelemetry Collector, started for one test: it receives OTLP over HTTP and writes what it got to files.

use std::fs;

use reqwest::StatusCode;
use serde_json::Value;

use super::daemon::Daemon;
use super::tools;

/// A running Collector. Dropping it ends the process and deletes its data.
#[derive(Debug)]
pub(crate) struct Collector(Daemon);

impl Collector {
    /// Starts a Collector, or returns `None` once the skip of `test` is recorded.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let binary = tools::built(test, "collector", "collector")?;
        let daemon = Daemon::start_if(
            "the OpenTelemetry Collector",
            // It has no other path, and takes nothing but POST.
            ("/v1/traces", |status| {
                status == StatusCode::METHOD_NOT_ALLOWED
            }),
            |directory, listen| {
                fs::write(directory.join("collector.yml"), configuration(listen))
                    .expect("a file can be written");
                let mut command = std::process::Command::new(&binary);
                command.args(["--config", "file:collector.yml"]);
                command
            },
        );
        Some(Self(daemon.await))
    }

    /// The base address of its receiver.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.authority())
    }

    /// The requests for `metrics` or `traces` that it has received, in order, as OTLP in JSON.
    pub(crate) fn received(&self, signal: &str) -> Vec<Value> {
        let text = self.0.file(&format!("{signal}.json"));
        // The last line may not be complete.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

fn configuration(listen: &str) -> String {
    let exporter =
        |signal| format!("  file/{signal}: {{path: {signal}.json, flush_interval: 50ms}}\n");
    let pipeline =
        |signal| format!("    {signal}: {{receivers: [otlp], exporters: [file/{signal}]}}\n");
    let signals = ["metrics", "traces"];
    format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{listen}'}}}}}}}}\nexporters:\n{}service:\n  pipelines:\n{}",
        signals.map(exporter).concat(),
        signals.map(pipeline).concat(),
    )
}
