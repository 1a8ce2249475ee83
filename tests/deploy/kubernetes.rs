//! The manifests for Kubernetes: the rules are those of Prometheus, and every manifest has the fields of its Go type.

use std::path::PathBuf;

use crate::support::deployment::{deploy, files, root};
use crate::support::tools;

#[test]
fn the_rules_for_kubernetes_are_those_of_prometheus() {
    let script = root().join("scripts/kubernetes.sh");
    tools::run(&script, &["--check"], root());
}

#[test]
fn the_types_of_kubernetes_and_of_the_operator_accept_the_manifests() {
    let test = "the_types_of_kubernetes_and_of_the_operator_accept_the_manifests";
    let Some(check) = tools::built(test, "kubernetes", "kubernetes") else {
        return;
    };
    let manifests: Vec<PathBuf> = files(&deploy().join("kubernetes"), "yml");
    assert!(manifests.len() >= 4, "only {manifests:?}");
    let arguments: Vec<&str> = manifests
        .iter()
        .map(|path| path.to_str().expect("a path in UTF-8"))
        .collect();
    tools::run(&check, &arguments, root());
}
