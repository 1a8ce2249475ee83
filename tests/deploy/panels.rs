//! The dashboard for Grafana: its panels, their descriptions and their places.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::deployment::{dashboard, panels, targets};

#[test]
fn every_panel_has_a_description_a_unit_and_the_chosen_source() {
    let dashboard = dashboard();
    let mut numbers = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(
            numbers.insert(panel["id"].as_u64()),
            "two panels {}",
            panel["id"]
        );
    }
    for panel in panels(&dashboard) {
        let title = &panel["title"];
        assert!(
            panel["description"]
                .as_str()
                .is_some_and(|said| said.len() > 20),
            "{title}"
        );
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{title} has no unit"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for (expression, target) in targets(panel) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert!(expression.contains("job=~\"$job\""), "{title} knows no job");
            assert!(
                expression.contains("instance=~\"$instance\""),
                "{title} knows no instance"
            );
            let fixed = expression.split('[').skip(1).find(|after| {
                !after.starts_with("$__rate_interval]")
                    && !after.starts_with("$__range]")
                    && !after.starts_with("1-5]")
                    && !after.starts_with("0-9]")
            });
            assert_eq!(fixed, None, "{title} has a window of its own");
        }
    }
}

/// Families of times that belong to no request, so that they have no trace.
const UNTRACED: [&str; 2] = [
    "runtime_event_loop_lag_seconds",
    "db_connection_open_seconds",
];

#[test]
fn latency_charts_show_the_exemplars_that_there_are() {
    let dashboard = dashboard();
    let mut charts = 0;
    for panel in panels(&dashboard).filter(|panel| panel["type"] == "timeseries") {
        for (expression, target) in targets(panel) {
            if expression.contains("histogram_quantile") {
                let is_traced = !UNTRACED.iter().any(|family| expression.contains(family));
                assert_eq!(
                    target["exemplar"].as_bool().unwrap_or_default(),
                    is_traced,
                    "exemplars of {}",
                    panel["title"]
                );
                charts += usize::from(is_traced);
            }
        }
    }
    assert!(charts >= 5, "only {charts} quantiles are drawn");
}

#[test]
fn panels_neither_overlap_nor_leave_the_grid() {
    let dashboard = dashboard();
    let mut taken = BTreeMap::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        assert!(
            side("x") + side("w") <= 24,
            "{} leaves the grid",
            panel["title"]
        );
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                if let Some(other) = taken.insert((x, y), &panel["title"]) {
                    panic!("{} lies upon {other}", panel["title"]);
                }
            }
        }
    }
}
