//! Tests the reader of expressions and documents.

use crate::support::promql::{Selection, blocks, selections};

fn selection(metric: &str, labels: &[&str]) -> Selection {
    Selection {
        metric: metric.to_owned(),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
    }
}

#[test]
fn an_expression_yields_its_metrics_and_their_labels() {
    let expression = r#"histogram_quantile(0.9, sum by (le, job) (rate(a_bucket{x=~"{\"y}", z!='1'}[5m] offset 1h)))
        >= 0 or on (job) group_left () topk(5, job:b:rate5m) * 1e3 unless c"#;
    assert_eq!(
        selections(expression),
        [
            selection("a_bucket", &["x", "z"]),
            selection("job:b:rate5m", &[]),
            selection("c", &[])
        ]
    );
}

#[test]
fn a_document_yields_its_promql_blocks_only() {
    let markdown = "text\n```promql\na\n  + b\n```\n```sh\nno\n```\n```promql\nc\n```\n";
    assert_eq!(blocks(markdown), ["a\n  + b", "c"]);
}
