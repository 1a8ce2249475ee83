//! The files for VictoriaMetrics, whose PromQL lacks the functions of native histograms: the recording rules and the dashboard
//! of Prometheus, with classic histograms alone. `make docs` writes them.

use std::path::Path;

use crate::support::deployment::{deploy, read};
use crate::support::{promql, tools};

const HEADER: &str = "\
# The recording rules of deploy/prometheus/rules.yml for vmalert, with classic histograms alone. The alerts are those of
# deploy/prometheus/alerts.yml.
#
# Written by `make docs`: change deploy/prometheus/rules.yml, and run it again.

";

/// The recording rules without native alternatives.
fn rules() -> String {
    let rules = read(&deploy().join("prometheus/rules.yml"));
    let (_, groups) = rules.split_once("\ngroups:").expect("groups");
    let text = format!("groups:{groups}");
    let mut out = HEADER.to_owned();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let indent = line.len() - line.trim_start().len();
        if line.trim() != "expr: |" {
            continue;
        }
        let mut expression = Vec::new();
        while let Some(line) = lines.next_if(|line| line.len() - line.trim_start().len() > indent) {
            expression.push(line);
        }
        out.push_str(&promql::classic(&expression.join("\n")));
        out.push('\n');
    }
    out
}

/// The dashboard without native alternatives.
fn dashboard() -> String {
    let dashboard = read(&deploy().join("grafana/actix-vitals.json"));
    let mut out = String::with_capacity(dashboard.len());
    for line in dashboard.lines() {
        let expression = line.trim_start().strip_prefix("\"expr\": ");
        if let Some(value) = expression {
            let (text, comma) = value
                .strip_suffix(',')
                .map_or((value, ""), |text| (text, ","));
            let text: String = serde_json::from_str(text).expect("an expression");
            let classic = serde_json::to_string(&promql::classic(&text)).expect("a string");
            let indent = &line[..line.len() - line.trim_start().len()];
            out.extend([indent, "\"expr\": ", &classic, comma, "\n"]);
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn is_written(path: &Path, expected: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, expected).expect("the file can be written");
    }
    assert!(
        read(path) == expected,
        "{} is outdated: run `make docs`",
        path.display()
    );
}

#[test]
fn the_files_for_victoriametrics_ask_for_classic_histograms() {
    let (rules, dashboard) = (rules(), dashboard());
    for text in [&rules, &dashboard] {
        for function in ["histogram_sum", "histogram_count", "histogram_fraction"] {
            assert!(!text.contains(function), "{function} is left");
        }
        assert!(text.contains("_bucket"), "a quantile is lost");
    }
    let directory = deploy().join("victoria-metrics");
    is_written(&directory.join("rules.yml"), &rules);
    is_written(&directory.join("actix-vitals.json"), &dashboard);
}

#[test]
fn vmalert_accepts_its_rules_and_alerts() {
    let test = "vmalert_accepts_its_rules_and_alerts";
    let Some(vmalert) = tools::built(test, "victoria-metrics", "vmalert") else {
        return;
    };
    let arguments = [
        "-dryRun",
        "-rule=victoria-metrics/rules.yml",
        "-rule=prometheus/alerts.yml",
    ];
    tools::run(&vmalert, &arguments, &deploy());
}
