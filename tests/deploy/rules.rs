//! The rules and alerts: Prometheus and Alertmanager accept them, each alert has tests and a section of the runbook.

use std::collections::BTreeSet;
use std::path::Path;

use yaml_rust2::Yaml;

use super::anchors;
use crate::support::deployment::{alerts, deploy, files, items, read, root, strings, text, yaml};
use crate::support::{scrapers, tools};

const SEVERITIES: [&str; 3] = ["critical", "warning", "info"];

/// The tests of the alerts, by name.
pub(super) fn alert_tests() -> Vec<(String, Yaml)> {
    files(&deploy().join("prometheus/tests"), "yml")
        .iter()
        .flat_map(|path| {
            let path = path.strip_prefix(deploy()).expect("a path below");
            let document = yaml(path.to_str().expect("a path in UTF-8"));
            items(&document["tests"])
                .iter()
                .map(|test| (text(test, "name").to_owned(), test.clone()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn prometheus_accepts_its_configuration_and_rules() {
    let directory = deploy().join("prometheus");
    for promtool in scrapers::promtools("prometheus_accepts_its_configuration_and_rules") {
        for arguments in [
            &["check", "config", "prometheus.yml"][..],
            &["check", "rules", "rules.yml", "alerts.yml"],
        ] {
            tools::run(&promtool, arguments, &directory);
        }
    }
}

#[test]
fn rules_and_alerts_pass_their_tests() {
    let promtools = scrapers::promtools("rules_and_alerts_pass_their_tests");
    let tests = files(&deploy().join("prometheus/tests"), "yml");
    // One process for each file, in parallel: tests of several days take seconds.
    std::thread::scope(|scope| {
        for test in &tests {
            let promtools = &promtools;
            scope.spawn(move || {
                let path = test.to_str().expect("a path in UTF-8");
                for promtool in promtools {
                    tools::run(promtool, &["test", "rules", path], root());
                }
            });
        }
    });
}

#[test]
fn alertmanager_accepts_its_configuration() {
    let test = "alertmanager_accepts_its_configuration";
    let amtools = [
        tools::tool(test, "amtool"),
        tools::built(test, "alertmanager", "amtool"),
    ];
    for amtool in amtools.into_iter().flatten() {
        amtool_accepts_the_configuration(&amtool);
    }
}

fn amtool_accepts_the_configuration(amtool: &Path) {
    let directory = deploy().join("alertmanager");
    tools::run(amtool, &["check-config", "alertmanager.yml"], &directory);
    for (severity, receiver) in [
        ("critical", "pager"),
        ("warning", "tickets"),
        ("info", "digest"),
    ] {
        let verify = format!("--verify.receivers={receiver}");
        let label = format!("severity={severity}");
        tools::run(
            amtool,
            &[
                "config",
                "routes",
                "test",
                "--config.file=alertmanager.yml",
                &verify,
                &label,
            ],
            &directory,
        );
    }
}

#[test]
fn every_alert_has_a_severity_a_summary_and_a_section_in_the_runbook() {
    let runbook = anchors(&read(&root().join("docs/RUNBOOK.md")));
    for alert in alerts() {
        let name = text(&alert, "alert");
        let severity = text(&alert["labels"], "severity");
        assert!(
            SEVERITIES.contains(&severity),
            "{name} has the severity {severity}"
        );
        for annotation in ["summary", "description"] {
            let said = text(&alert["annotations"], annotation);
            assert!(said.len() > 20, "the {annotation} of {name} says: {said}");
        }
        let url = text(&alert["annotations"], "runbook_url");
        assert_eq!(url, format!("docs/RUNBOOK.md#{}", name.to_lowercase()));
        let (_, section) = url.split_once('#').expect("an anchor");
        assert!(
            runbook.contains(section),
            "the runbook has no section {section}"
        );
    }
}

#[test]
fn every_section_of_the_runbook_is_for_an_alert() {
    let alerts: BTreeSet<String> = alerts()
        .iter()
        .map(|alert| text(alert, "alert").to_owned())
        .collect();
    for heading in read(&root().join("docs/RUNBOOK.md")).lines() {
        if let Some(name) = heading.strip_prefix("## ") {
            assert!(alerts.contains(name), "there is no alert {name}");
        }
    }
}

#[test]
fn every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_must_not() {
    let mut fires = BTreeSet::new();
    let mut quiet = BTreeSet::new();
    for (name, test) in alert_tests() {
        for case in items(&test["alert_rule_test"]) {
            let alert = text(case, "alertname").to_owned();
            let expected = items(&case["exp_alerts"]);
            // An empty expectation counts only in a test that is named after this alert.
            if !expected.is_empty() {
                fires.insert(alert);
            } else if name.starts_with(&format!("quiet: {alert} ")) {
                quiet.insert(alert);
            }
        }
    }
    for alert in alerts() {
        let name = text(&alert, "alert");
        assert!(fires.contains(name), "no test in which {name} fires");
        assert!(
            quiet.contains(name),
            "no test in which {name} must not fire"
        );
    }
}

#[test]
fn every_file_that_prometheus_names_exists() {
    let directory = deploy().join("prometheus");
    let configuration = yaml("prometheus/prometheus.yml");
    for path in strings(&configuration["rule_files"]) {
        assert!(directory.join(path).is_file(), "there is no {path}");
    }
    let mut lists = 0;
    for job in items(&configuration["scrape_configs"]) {
        for discovery in items(&job["file_sd_configs"]) {
            for pattern in strings(&discovery["files"]) {
                let path = pattern
                    .strip_suffix("/*.yml")
                    .expect("a directory of lists");
                lists += files(&directory.join(path), "yml").len();
            }
        }
    }
    assert!(lists > 0, "no list of targets for file discovery");
    for test in files(&directory.join("tests"), "yml") {
        let path = test.strip_prefix(deploy()).expect("a path below");
        let document = yaml(path.to_str().expect("a path in UTF-8"));
        for path in strings(&document["rule_files"]) {
            assert!(
                directory.join("tests").join(path).is_file(),
                "there is no {path}"
            );
        }
    }
}
