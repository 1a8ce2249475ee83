//! Checks the files in `deploy` and `docs`: configurations load, alerts have tests and a runbook section, every named file
//! exists, every named metric is promised.
//!
//! No server runs here. `prometheus` tests that the expressions return data.

mod documents;
mod expressions;
mod kubernetes;
mod panels;
mod reading;
mod rules;
mod scraper_table;
mod supervisors;
mod victoria_metrics;

use std::collections::BTreeSet;

/// The anchor of a heading, as GitHub and most others generate it.
fn anchor(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(markdown: &str) -> BTreeSet<String> {
    markdown
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}
