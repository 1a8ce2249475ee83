//! A real scraper, started for one test: it scrapes one server or several, with rules or without, and answers queries through
//! Prometheus' HTTP API, which VictoriaMetrics has too.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::daemon::Daemon;
use super::scrapers::Scraper;

/// A running Prometheus or VictoriaMetrics. Dropping it ends the process and deletes its data.
#[derive(Debug)]
pub(crate) struct Prometheus(Daemon);

/// The configuration of a Prometheus.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// Scrape configurations, as entries of a list.
    pub(crate) jobs: &'a str,
    /// How often targets are scraped and rules evaluated.
    pub(crate) interval: &'a str,
    /// The contents of rule files.
    pub(crate) rules: &'a [String],
    /// The Alertmanager that alerts are sent to, as `host:port`.
    pub(crate) alertmanager: Option<&'a str>,
    /// Whether native histograms are scraped, and classic ones not.
    pub(crate) native: bool,
    /// Further settings under `global`, each with a comma before it.
    pub(crate) global: &'a str,
    /// Further flags.
    pub(crate) flags: &'a [&'a str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            jobs: "",
            interval: "1s",
            rules: &[],
            alertmanager: None,
            native: false,
            global: "",
            flags: &[],
        }
    }
}

impl Setup<'_> {
    /// The configuration. The files of rules are beside it, with the names of [`rules_file`].
    fn configuration(&self, scraper: &Scraper) -> String {
        let Self {
            jobs,
            interval,
            global,
            ..
        } = self;
        let native = if self.native {
            scraper.native_setting()
        } else {
            ""
        };
        let rules: Vec<String> = (0..self.rules.len()).map(rules_file).collect();
        let rules = rules.join(", ");
        let alerting = self.alertmanager.map_or_else(String::new, |address| {
            format!(
                "alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{address}']}}]}}]}}\n"
            )
        });
        format!(
            "global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: {interval}{native}{global}}}\n\
             rule_files: [{rules}]\n\
             {alerting}scrape_configs:\n{jobs}"
        )
    }
}

fn rules_file(number: usize) -> String {
    format!("rules-{number}.yml")
}

/// One element of an instant vector.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    /// The labels, with `__name__` if the query keeps it.
    pub(crate) labels: BTreeMap<String, String>,
    /// The value, or the count of a native histogram.
    pub(crate) value: f64,
}

impl Prometheus {
    /// Starts a scraper, which scrapes `target` (`host:port`) every second, with these further flags.
    pub(crate) async fn start(scraper: &Scraper, target: &str, flags: &[&str]) -> Self {
        Self::start_with_jobs(scraper, &job("actix-vitals", &[target]), flags).await
    }

    /// Like [`Self::start`], with these scrape configurations, as entries of a list.
    pub(crate) async fn start_with_jobs(scraper: &Scraper, jobs: &str, flags: &[&str]) -> Self {
        let setup = Setup {
            jobs,
            flags,
            ..Setup::default()
        };
        Self::start_set_up(scraper, &setup).await
    }

    /// Starts a scraper with this configuration.
    pub(crate) async fn start_set_up(scraper: &Scraper, setup: &Setup<'_>) -> Self {
        let command = |directory: &Path, listen: &str| {
            let write = |name: &str, text: &str| {
                std::fs::write(directory.join(name), text).expect("a file can be written");
            };
            for (number, rules) in setup.rules.iter().enumerate() {
                write(&rules_file(number), rules);
            }
            write("prometheus.yml", &setup.configuration(scraper));
            scraper.command(listen, setup.native, setup.flags)
        };
        Self(Daemon::start(scraper.name(), command).await)
    }

    /// Starts vmalert with the files that are deployed for VictoriaMetrics. It reads from `victoria` and writes to it, and
    /// answers the part of the HTTP API that is about rules.
    pub(crate) async fn start_vmalert(binary: &Path, victoria: &Self, deploy: &Path) -> Self {
        let url = format!("http://{}", victoria.authority());
        let command = |_: &Path, listen: &str| {
            let mut command = Command::new(binary);
            for option in ["datasource.url", "remoteWrite.url", "remoteRead.url"] {
                command.arg(format!("-{option}={url}"));
            }
            for file in ["victoria-metrics/rules.yml", "prometheus/alerts.yml"] {
                command.arg(format!("-rule={}", deploy.join(file).display()));
            }
            command
                .args(["-evaluationInterval=1s", "-notifier.blackhole"])
                .args(["-remoteWrite.flushInterval=200ms", "-loggerLevel=WARN"])
                .arg(format!("-httpListenAddr={listen}"));
            command
        };
        Self(Daemon::start("vmalert", command).await)
    }

    /// `host:port` of its HTTP API.
    pub(crate) fn authority(&self) -> &str {
        self.0.authority()
    }

    /// What it has logged (warnings and errors).
    pub(crate) fn log(&self) -> String {
        self.0.log()
    }

    /// Calls the HTTP API and returns `data`, or the error message of Prometheus.
    pub(crate) async fn ask(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Value, String> {
        let answer = self
            .0
            .get(path)
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

    /// Runs an instant query. A scalar is returned as one element without labels.
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

    /// The state of its only target: `up` after a successful scrape, otherwise the reason.
    pub(crate) async fn target_is_up(&self) -> Result<(), String> {
        let data = self.ask("/api/v1/targets", &[]).await?;
        let target = &data["activeTargets"][0];
        match target["health"].as_str() {
            Some("up") => Ok(()),
            _ => Err(format!("the target: {}", target["lastError"])),
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

/// Prometheus writes numbers as strings, because JSON has neither NaN nor infinities.
fn number(value: &Value) -> Result<f64, String> {
    let text = value
        .as_str()
        .ok_or_else(|| format!("{value} is no string"))?;
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// The scrape configuration of one job with these targets, as an entry of a list.
pub(crate) fn job(name: &str, targets: &[&str]) -> String {
    let targets = targets.join("', '");
    format!("  - job_name: {name}\n    static_configs:\n      - targets: ['{targets}']\n")
}
