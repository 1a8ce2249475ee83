//! The expressions of rules, panels and documents: they are PromQL, and name metrics that are promised.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::rules::alert_tests;
use crate::support::deployment::{
    dashboard, deployed_expressions, documented_expressions, filled, items, label_values, read,
    recorded, root, text,
};
use crate::support::{
    promised::{Kind, PROMISED, TARGET_LABELS, promise_of},
    promql, scrapers, tools,
};

#[test]
fn every_metric_that_is_named_is_promised() {
    let recorded = recorded();
    let mut series = Vec::new();
    for (name, test) in alert_tests() {
        for input in items(&test["input_series"]) {
            series.push((format!("test {name}"), text(input, "series").to_owned()));
        }
    }
    for variable in dashboard()["templating"]["list"]
        .as_array()
        .expect("variables")
    {
        if let Some(query) = variable["definition"].as_str() {
            let (selector, label) = label_values(query);
            let known = promise_of(&promql::selections(selector)[0].metric)
                .is_some_and(|(promise, _)| promise.labels.contains(&label));
            assert!(
                known || TARGET_LABELS.contains(&label),
                "no label {label} in {query}"
            );
            series.push((format!("variable {}", variable["name"]), filled(selector)));
        }
    }
    for (place, expression) in deployed_expressions()
        .into_iter()
        .chain(documented_expressions())
        .chain(series)
    {
        for selection in promql::selections(&expression) {
            let metric = selection.metric.as_str();
            if metric.contains(':') {
                assert!(
                    recorded.contains(metric),
                    "{place}: nothing records {metric}"
                );
                continue;
            }
            let (promise, classic) =
                promise_of(metric).unwrap_or_else(|| panic!("{place}: {metric} is not promised"));
            for label in &selection.labels {
                let known = promise.labels.contains(&label.as_str())
                    || TARGET_LABELS.contains(&label.as_str())
                    || (classic && label == "le" && metric.ends_with("_bucket"));
                assert!(known, "{place}: {metric} has no label {label}");
            }
        }
    }
}

#[test]
fn the_promises_agree_with_the_reference_of_metrics() {
    let mut compared = 0;
    for row in read(&root().join("docs/METRICS.md")).lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let Some(name) = cells.get(1).and_then(|cell| cell.strip_prefix('`')) else {
            continue;
        };
        // A table of labels follows the families.
        if !["counter", "gauge", "histogram"].contains(&cells[2]) {
            continue;
        }
        let promised = PROMISED
            .iter()
            .find(|promise| promise.name == name.trim_end_matches('`'));
        let promise = promised.unwrap_or_else(|| panic!("{name} is not promised"));
        let labels: BTreeSet<&str> = cells[4]
            .split(", ")
            .map(|label| label.trim_matches('`'))
            .filter(|label| !label.is_empty())
            .collect();
        let known: BTreeSet<&str> = promise.labels.iter().copied().collect();
        assert_eq!(labels, known, "the labels of {name}");
        assert_eq!(cells[2], promise.kind.exposed(), "the type of {name}");
        compared += 1;
    }
    assert_eq!(compared, PROMISED.len(), "families that were found");
}

#[test]
fn every_histogram_is_asked_in_both_forms() {
    for (place, expression) in deployed_expressions()
        .into_iter()
        .chain(documented_expressions())
    {
        // For each histogram: whether it is queried in classic form, and in native form.
        let mut forms: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
        for selection in promql::selections(&expression) {
            if let Some((promise, classic)) = promise_of(&selection.metric)
                && promise.kind == Kind::Histogram
            {
                let new = !forms.contains_key(promise.name);
                assert!(
                    !(new && classic),
                    "{place}: {} is asked in classic form first:\n{expression}",
                    promise.name
                );
                let form = forms.entry(promise.name).or_default();
                form.0 |= classic;
                form.1 |= !classic;
            }
        }
        for (name, form) in forms {
            assert_eq!(
                form,
                (true, true),
                "{place}: {name} in (classic, native) form:\n{expression}"
            );
        }
    }
}

#[test]
fn every_expression_is_promql() {
    let promtools = scrapers::promtools("every_expression_is_promql");
    let rules: Vec<Value> = deployed_expressions()
        .into_iter()
        .chain(documented_expressions())
        .enumerate()
        .map(|(number, (_, expression))| {
            serde_json::json!({"record": format!("test:expression:{number}"), "expr": expression})
        })
        .collect();
    assert!(
        rules.len() > 100,
        "only {} expressions were found",
        rules.len()
    );
    let file = serde_json::json!({"groups": [{"name": "expressions", "rules": rules}]});
    let directory = tempfile::tempdir().expect("a temporary directory");
    // JSON is YAML.
    std::fs::write(directory.path().join("expressions.yml"), file.to_string())
        .expect("the expressions can be written");
    for promtool in promtools {
        let arguments = ["check", "rules", "expressions.yml"];
        tools::run(&promtool, &arguments, directory.path());
    }
}
