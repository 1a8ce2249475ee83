//! Checks the files in `deploy` and `docs`: configurations load, alerts have tests and a runbook section, every named file
//! exists, every named metric is promised.
//!
//! No server runs here. `prometheus` tests that the expressions return data.

mod kubernetes;
mod reading;
mod scraper_table;
mod victoria_metrics;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::deployment::{
    alerts, dashboard, deploy, deployed_expressions, documented_expressions, files, filled, items,
    label_values, panels, read, recorded, root, strings, targets, text, yaml,
};
use actix_vitals_service::settings::Settings;
use clap::CommandFactory as _;
use serde_json::Value;
use yaml_rust2::Yaml;

use crate::support::{
    promised::{Kind, PROMISED, TARGET_LABELS, promise_of},
    promql, scrapers, tools,
};

const SEVERITIES: [&str; 3] = ["critical", "warning", "info"];

/// The tests of the alerts, by name.
fn alert_tests() -> Vec<(String, Yaml)> {
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
fn systemd_accepts_the_unit() {
    let unit = read(&deploy().join("systemd/actix-vitals.service"));
    for line in [
        "Type=notify",
        "WatchdogSec=30",
        "Restart=on-failure",
        "DynamicUser=yes",
        "ProtectSystem=strict",
    ] {
        assert!(
            unit.lines().any(|each| each == line),
            "the unit says {line}"
        );
    }
    let Some(analyze) = tools::tool("systemd_accepts_the_unit", "systemd-analyze") else {
        return;
    };
    // systemd-analyze requires the binary to exist, which is not installed here.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("actix-vitals.service");
    let here = unit.replace("/usr/local/bin/actix-vitals", "/bin/true");
    std::fs::write(&path, here).expect("the unit can be written");
    let path = path.to_str().expect("a path in UTF-8");
    tools::run(&analyze, &["verify", "--man=no", path], root());
    // The exposure level in tenths. The guide quotes it.
    let harden = ["security", "--offline=yes", "--threshold=14", path];
    tools::run(&analyze, &harden, root());
}

/// The default of a setting.
fn default_of(setting: &str) -> String {
    let command = Settings::command();
    let mut arguments = command.get_arguments();
    let argument = arguments.find(|argument| argument.get_long() == Some(setting));
    let values = argument.expect("a setting").get_default_values();
    values[0].to_str().expect("text").to_owned()
}

#[test]
fn who_stops_the_service_leaves_it_time_to_end_and_its_connections_have_room() {
    let unit = read(&deploy().join("systemd/actix-vitals.service"));
    let of_unit = |key: &str| -> u64 {
        let value = unit.lines().find_map(|line| line.strip_prefix(key));
        value.expect("a line").parse().expect("a number")
    };
    let seconds = |setting| {
        let duration = humantime::parse_duration(&default_of(setting));
        duration.expect("a duration").as_secs()
    };
    let stop = seconds("drain-delay") + seconds("shutdown-timeout");
    assert!(of_unit("TimeoutStopSec=") > stop, "more than {stop} s");
    let compose = read(&deploy().join("docker/compose.yml"));
    let mut lines = compose.lines().map(str::trim);
    let period = lines.find_map(|line| line.strip_prefix("stop_grace_period: "));
    let period = humantime::parse_duration(period.expect("a line")).expect("a duration");
    assert!(period.as_secs() > stop, "more than {stop} s");

    let connections: u64 = default_of("max-connections").parse().expect("a number");
    // The connections of both listeners, and other descriptors.
    let descriptors = 2 * connections + 1000;
    assert!(
        of_unit("LimitNOFILE=") > descriptors,
        "more than {descriptors}"
    );
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

#[test]
fn every_file_that_compose_names_exists_and_is_used_where_it_is_mounted() {
    let directory = deploy().join("docker");
    let compose = yaml("docker/compose.yml");
    let services = compose["services"].as_hash().expect("services");
    let volumes = compose["volumes"].as_hash().expect("volumes");
    let mut mounted = BTreeSet::new();
    for (name, service) in services {
        let name = name.as_str().expect("a name");
        for volume in strings(&service["volumes"]) {
            let mut parts = volume.split(':');
            let source = parts.next().expect("a source");
            let target = parts.next().expect("a target");
            if source.starts_with('.') {
                assert!(
                    directory.join(source).exists(),
                    "{name}: there is no {source}"
                );
                assert_eq!(parts.next(), Some("ro"), "{name} may write to {source}");
            } else {
                assert!(
                    volumes.contains_key(&Yaml::String(source.to_owned())),
                    "{name}: {source}"
                );
            }
            mounted.insert(target);
        }
        if let Some(context) = service["build"]["context"].as_str() {
            let context = directory.join(context);
            assert!(
                context.join("Cargo.toml").is_file(),
                "{name} is built from elsewhere"
            );
            assert!(
                context
                    .join(text(&service["build"], "dockerfile"))
                    .is_file(),
                "{name}"
            );
        } else {
            let image = text(service, "image");
            assert!(
                !image.ends_with(":latest") && image.contains(':'),
                "{image} is not pinned"
            );
        }
        for argument in strings(&service["command"]) {
            if let Some(file) = argument.strip_prefix("--config.file=") {
                assert!(
                    mounted.contains(file),
                    "{name} reads {file}, which is not mounted"
                );
            }
        }
        for port in strings(&service["ports"]) {
            assert!(
                port.starts_with("127.0.0.1:"),
                "{name} publishes {port} to everybody"
            );
        }
    }
    let provider = yaml("grafana/provisioning/dashboards/actix-vitals.yml");
    let path = text(&provider["providers"][0]["options"], "path");
    assert!(
        mounted.contains(format!("{path}/actix-vitals.json").as_str()),
        "{path}"
    );
    let source = yaml("grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(
        text(&source["datasources"][0], "url"),
        "http://prometheus:9090"
    );
}

#[test]
fn the_names_that_prometheus_and_compose_share_agree() {
    let compose = yaml("docker/compose.yml");
    let services = compose["services"].as_hash().expect("services");
    let configuration = yaml("prometheus/prometheus.yml");
    let named = items(&configuration["scrape_configs"])
        .iter()
        .chain(items(&configuration["alerting"]["alertmanagers"]))
        .flat_map(|entry| items(&entry["static_configs"]))
        .flat_map(|list| strings(&list["targets"]));
    for target in named {
        let (host, _) = target.split_once(':').expect("host and port");
        let known = host == "localhost" || services.contains_key(&Yaml::String(host.to_owned()));
        assert!(known, "compose has no service {host}");
    }
}

#[test]
fn every_file_that_the_image_is_made_of_exists() {
    let dockerfile = read(&deploy().join("docker/Dockerfile"));
    for line in dockerfile.lines() {
        if let Some(arguments) = line.strip_prefix("COPY ")
            && !arguments.contains("--from=")
        {
            let sources: Vec<&str> = arguments.split_whitespace().collect();
            for source in &sources[..sources.len() - 1] {
                assert!(root().join(source).exists(), "there is no {source}");
            }
        }
    }
    let ignore = read(&deploy().join("docker/Dockerfile.dockerignore"));
    let admitted: BTreeSet<&str> = ignore
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "crates",
        "src",
        "migrations",
        "README.md",
        "scripts/used-functions.ld",
    ] {
        assert!(admitted.contains(path), "{path} does not enter the context");
    }
    // Cargo reads a manifest only if the sources of all declared targets exist.
    let manifest = read(&root().join("Cargo.toml"));
    for (section, directory) in [
        ("[[bench]]", "benches"),
        ("[[example]]", "examples"),
        ("[[test]]", "tests"),
    ] {
        assert!(
            !manifest.contains(section) || admitted.contains(directory),
            "{directory}"
        );
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    for name in ["RUNBOOK.md", "DEPLOY.md", "SCALE.md"] {
        let document = read(&root().join("docs").join(name));
        for link in document
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.starts_with("http") {
                continue;
            }
            let (path, section) = link.split_once('#').unwrap_or((link, ""));
            let path = if path.is_empty() { name } else { path };
            let target = root().join("docs").join(path);
            assert!(target.exists(), "{name} links to {link}");
            if !section.is_empty() {
                assert!(
                    anchors(&read(&target)).contains(section),
                    "{name} links to {link}"
                );
            }
        }
    }
}

/// The source of a module: its file, and the files in the directory of its name.
fn sources(module: &Path) -> String {
    let entries = std::fs::read_dir(module).into_iter().flatten();
    let inner = entries.map(|entry| entry.expect("an entry").path());
    let own = module.with_extension("rs");
    inner
        .chain(own.is_file().then_some(own))
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| read(&path))
        .collect()
}

#[test]
fn every_test_that_holds_a_promise_of_security_exists() {
    let document = read(&root().join("docs/SECURITY.md"));
    let (_, table) = document
        .split_once("| what | in | test |")
        .expect("a table");
    let rows = table.lines().skip(2).take_while(|line| !line.is_empty());
    let mut count = 0;
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, _, place, test, _] = cells[..] else {
            panic!("not three cells: {row}");
        };
        let function = format!("fn {}(", test.trim_matches('`'));
        assert!(
            sources(&root().join(place)).contains(&function),
            "{place} has no {function}"
        );
        count += 1;
    }
    assert!(count > 30, "only {count} rows");
}

#[test]
fn the_deployment_guide_says_at_its_top_what_was_never_run() {
    let guide = read(&root().join("docs/DEPLOY.md"));
    let top: String = guide.lines().take(4).collect();
    assert!(
        top.contains("container files have never been built or started"),
        "{top}"
    );
}
