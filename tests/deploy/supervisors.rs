//! The unit of systemd, Compose and the container image: they name files that exist, and leave the service time to end.

use std::collections::BTreeSet;

use actix_vitals_service::settings::Settings;
use clap::CommandFactory as _;
use yaml_rust2::Yaml;

use crate::support::deployment::{deploy, items, read, root, strings, text, yaml};
use crate::support::tools;

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
