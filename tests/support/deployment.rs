//! Reads the files under `deploy` and `docs` for tests: rules, alerts, the dashboard, and every expression in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use super::promql;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn deploy() -> PathBuf {
    root().join("deploy")
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn yaml(path: &str) -> Yaml {
    let mut documents = YamlLoader::load_from_str(&read(&deploy().join(path)))
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(documents.len(), 1, "{path} is one document");
    documents.remove(0)
}

pub(crate) fn dashboard() -> Value {
    serde_json::from_str(&read(&deploy().join("grafana/actix-vitals.json")))
        .expect("the dashboard is JSON")
}

/// The elements of a sequence. None if it is not a sequence.
pub(crate) fn items(yaml: &Yaml) -> &[Yaml] {
    yaml.as_vec().map_or(&[], Vec::as_slice)
}

pub(crate) fn strings(yaml: &Yaml) -> impl Iterator<Item = &str> {
    items(yaml).iter().filter_map(Yaml::as_str)
}

pub(crate) fn text<'a>(yaml: &'a Yaml, key: &str) -> &'a str {
    yaml[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text under {key} in {yaml:?}"))
}

/// The files of a directory under the repository with this ending, sorted.
pub(crate) fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == ending)
        })
        .collect();
    found.sort();
    found
}

pub(crate) fn rules_of(path: &str) -> Vec<Yaml> {
    items(&yaml(path)["groups"])
        .iter()
        .flat_map(|group| items(&group["rules"]).to_vec())
        .collect()
}

pub(crate) fn alerts() -> Vec<Yaml> {
    rules_of("prometheus/alerts.yml")
}

pub(crate) fn recorded() -> BTreeSet<String> {
    rules_of("prometheus/rules.yml")
        .iter()
        .map(|rule| text(rule, "record").to_owned())
        .collect()
}

/// All panels except rows.
pub(crate) fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"]
        .as_array()
        .expect("panels")
        .iter()
        .filter(|panel| panel["type"] != "row")
}

pub(crate) fn targets(panel: &Value) -> impl Iterator<Item = (&str, &Value)> {
    panel["targets"]
        .as_array()
        .expect("targets")
        .iter()
        .map(|target| (target["expr"].as_str().expect("an expression"), target))
}

/// The title and letter of a panel's expression, for messages.
pub(crate) fn place(panel: &Value, target: &Value) -> String {
    let [title, letter] =
        [&panel["title"], &target["refId"]].map(|name| name.as_str().expect("a name"));
    format!("panel {title} {letter}")
}

/// An expression of Grafana with values for its variables.
pub(crate) fn filled(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "1m")
        .replace("$__range", "5m")
        .replace("$job", ".*")
        .replace("$instance", ".*")
        .replace("$endpoint", ".*")
}

/// The selector and the label in `label_values(selector, label)`, the query of a Grafana variable.
pub(crate) fn label_values(query: &str) -> (&str, &str) {
    query
        .strip_prefix("label_values(")
        .and_then(|query| query.strip_suffix(')'))
        .and_then(|query| query.rsplit_once(", "))
        .expect("a variable asks for label_values(selector, label)")
}

/// Every expression in rules, alerts and the dashboard, with its place.
pub(crate) fn deployed_expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in ["prometheus/rules.yml", "prometheus/alerts.yml"] {
        for rule in rules_of(path) {
            let name = rule["record"].as_str().or(rule["alert"].as_str());
            let place = format!("{path}: {}", name.expect("a rule has a name"));
            found.push((place, text(&rule, "expr").to_owned()));
        }
    }
    let dashboard = dashboard();
    for panel in panels(&dashboard) {
        for (expression, target) in targets(panel) {
            found.push((place(panel, target), filled(expression)));
        }
    }
    for annotation in dashboard["annotations"]["list"]
        .as_array()
        .expect("annotations")
    {
        if let Some(expression) = annotation["expr"].as_str() {
            let name = annotation["name"].as_str().expect("a name");
            found.push((format!("annotation {name}"), filled(expression)));
        }
    }
    found
}

/// Every expression in the documents, with its place.
pub(crate) fn documented_expressions() -> Vec<(String, String)> {
    let mut documents = files(&root().join("docs"), "md");
    // It is made from the other cookbook, by names that are promised elsewhere.
    documents.retain(|path| !path.ends_with("promql-otel.md"));
    documents.push(root().join("README.md"));
    documents
        .iter()
        .flat_map(|path| {
            let place = path.strip_prefix(root()).expect("a path below");
            promql::blocks(&read(path))
                .into_iter()
                .map(|block| (place.display().to_string(), block))
        })
        .collect()
}
