//! Checks the description against the running service with Schemathesis. It reads `/openapi.json`, sends valid and invalid
//! requests, follows links, and checks every answer.
//!
//! Tests beside the description check that every route is described, and that its limits are those of the code.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::exposition::Exposition;
use crate::support::postgres::Cluster;
use crate::support::server::Server;

use crate::support::tools;

/// Examples for each operation and phase; `VITALS_DESCRIPTION_EXAMPLES` asks for more.
const EXAMPLES: &str = "10";

/// Links are those of the description, and those that follow from its names. Schemathesis would also follow each path in an
/// answer as a link, and the endpoints that the ops endpoints name are no paths: `/data/{item_id}`.
const SETTINGS: &str = "[phases.stateful.inference]\nalgorithms = [\"dependency-analysis\"]\n";

/// Runs all phases with all checks; answers the report.
fn judge(schemathesis: &Path, server: &Server, seed: u32) -> Value {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let report = directory.path().join("report.json");
    std::fs::write(directory.path().join("schemathesis.toml"), SETTINGS).expect("a file");
    let examples = std::env::var("VITALS_DESCRIPTION_EXAMPLES");
    let output = Command::new(schemathesis)
        .args(["run", &server.url("/openapi.json"), "--no-color"])
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--checks", "all", "--mode", "all"])
        .args(["--seed", &seed.to_string()])
        .args(["--max-examples", examples.as_deref().unwrap_or(EXAMPLES)])
        .args(["--report", "json", "--report-json-path"])
        .arg(&report)
        // What it keeps of one run for the next is no concern of ours.
        .current_dir(directory.path())
        .output()
        .expect("Schemathesis starts");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(
        output.status.success(),
        "seed {seed}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report = std::fs::read_to_string(report).expect("a report");
    serde_json::from_str(&report).expect("a report in JSON")
}

/// Holds the report and the service's own numbers to it that all was asked, and nothing failed.
async fn holds(test: &str, seed: u32, start: impl FnOnce() -> Server) {
    let Some(python) = tools::python(test) else {
        return;
    };
    let server = start();
    let report = judge(&python.with_file_name("st"), &server, seed);
    assert_eq!(report["complete"], true, "{report}");
    for phase in ["examples", "coverage", "fuzzing", "stateful"] {
        assert_eq!(report["phases"][phase]["status"], "success", "{phase}");
    }
    let cases = &report["test_cases"];
    assert_eq!(cases["with_failures"], 0, "{cases}");
    assert_eq!(cases["errored"], 0, "{cases}");
    assert!(cases["generated"].as_u64() > Some(200), "{cases}");

    let description = server.get("/openapi.json").await.json();
    let scrape = server.scrape().await;
    for (path, item) in description["paths"].as_object().expect("paths") {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            if item[method.to_lowercase()].is_object() {
                let status = succeeded(&scrape, method, path);
                assert!(status.is_some(), "no {method} {path} succeeded");
            }
        }
    }
    let refused = [("endpoint", "/data"), ("http_status", "422")];
    assert!(scrape.sum("http_requests_total", &refused) > 10.0);
    for (labels, count) in scrape.series("http_requests_total") {
        let status = &labels["http_status"];
        assert!(!status.starts_with('5'), "{count} of {labels:?}");
    }
    assert!(scrape.sum("http_request_panics_total", &[]) < 1.0);
}

/// The status of success that requests of this endpoint had, if one of them had any.
fn succeeded(scrape: &Exposition, method: &str, endpoint: &str) -> Option<u16> {
    [200, 201, 204].into_iter().find(|status| {
        let status = status.to_string();
        let labels = [
            ("method", method),
            ("endpoint", endpoint),
            ("http_status", status.as_str()),
        ];
        scrape.sum("http_requests_total", &labels) > 0.0
    })
}

#[tokio::test]
async fn the_service_is_as_described_by_the_first_seed() {
    holds(
        "the_service_is_as_described_by_the_first_seed",
        1,
        Server::start,
    )
    .await;
}

#[tokio::test]
async fn the_service_is_as_described_by_the_second_seed() {
    holds(
        "the_service_is_as_described_by_the_second_seed",
        2,
        Server::start,
    )
    .await;
}

#[tokio::test]
async fn the_service_is_as_described_on_postgresql_by_the_third_seed() {
    let test = "the_service_is_as_described_on_postgresql_by_the_third_seed";
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    let start = || Server::start_on(Cluster::shared(&programs).database(), &[]);
    holds(test, 3, start).await;
}
