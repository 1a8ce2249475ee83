//! The command line: help, version, and one sentence for each invalid setting.

use std::time::{Duration, Instant};

use crate::support::server::{Server, run_to_end};

#[test]
fn help_lists_every_setting_with_its_variable() {
    let output = run_to_end(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    for (flag, variable) in [
        ("--listen", "VITALS_LISTEN"),
        ("--ops-listen", "VITALS_OPS_LISTEN"),
        ("--database-url", "DATABASE_URL"),
        ("--pool-size", "VITALS_POOL_SIZE"),
        ("--pool-timeout", "VITALS_POOL_TIMEOUT"),
        ("--workers", "VITALS_WORKERS"),
        ("--max-series", "VITALS_MAX_SERIES"),
        ("--latency-buckets", "VITALS_LATENCY_BUCKETS"),
        ("--exclude", "VITALS_EXCLUDE"),
        ("--web-config", "VITALS_WEB_CONFIG"),
        ("--ops-token-file", "VITALS_OPS_TOKEN_FILE"),
        ("--open-livez", "VITALS_OPEN_LIVEZ"),
        ("--tls-cert", "VITALS_TLS_CERT"),
        ("--tls-key", "VITALS_TLS_KEY"),
        ("--log", "VITALS_LOG"),
        ("--log-format", "VITALS_LOG_FORMAT"),
        ("--drain-delay", "VITALS_DRAIN_DELAY"),
        ("--shutdown-timeout", "VITALS_SHUTDOWN_TIMEOUT"),
    ] {
        assert!(
            help.contains(flag) && help.contains(variable),
            "{flag} or {variable} is not in\n{help}"
        );
    }
}

#[test]
fn the_version_is_the_packages() {
    let output = run_to_end(&["--version"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let version = String::from_utf8(output.stdout).unwrap();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

/// The one line on stderr with which the binary rejects these settings.
fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run_to_end(arguments, environment);
    assert_eq!(
        output.status.code(),
        Some(2),
        "{arguments:?} {environment:?}"
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr.lines().count(),
        1,
        "{arguments:?}: more than one sentence: {stderr}"
    );
    assert!(
        stderr.trim_end().ends_with('.'),
        "{arguments:?}: no sentence: {stderr}"
    );
    assert!(
        output.stdout.is_empty(),
        "{arguments:?}: something on stdout"
    );
    stderr
}

#[test]
fn a_bad_setting_is_one_sentence_that_names_it() {
    for (flag, value) in [
        ("--listen", "nonsense"),
        ("--listen", "127.0.0.1"),
        ("--ops-listen", "localhost"),
        ("--pool-size", "0"),
        ("--pool-size", "many"),
        ("--pool-timeout", "soon"),
        ("--workers", "0"),
        ("--max-series", "0"),
        ("--latency-buckets", "1,0.5"),
        ("--latency-buckets", "a,b"),
        ("--latency-buckets", "-1,1"),
        ("--latency-buckets", "NaN"),
        ("--log", "info=what=this"),
        ("--log-format", "xml"),
        ("--shutdown-timeout", "-1s"),
        ("--exclude", "data"),
    ] {
        let stderr = refusal(&[&format!("{flag}={value}")], &[]);
        assert!(stderr.contains(flag), "{flag}={value}: {stderr}");
    }
}

#[test]
fn a_bad_variable_is_named_too() {
    let stderr = refusal(&[], &[("VITALS_WORKERS", "-3")]);
    assert!(stderr.contains("VITALS_WORKERS"), "{stderr}");
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let server = Server::start();
    let output = run_to_end(
        &["--listen", server.authority()],
        &[
            ("VITALS_OPS_LISTEN", ""),
            ("VITALS_EXCLUDE", ""),
            ("VITALS_WORKERS", ""),
            ("VITALS_POOL_TIMEOUT", ""),
        ],
    );
    assert_eq!(
        output.status.code(),
        Some(1),
        "it failed over the address, not over a setting"
    );
}

#[test]
fn an_empty_database_url_is_refused() {
    let stderr = refusal(&[], &[("DATABASE_URL", "")]);
    assert!(stderr.contains("DATABASE_URL"), "{stderr}");
}

#[test]
fn an_unknown_flag_is_refused() {
    assert!(refusal(&["--colour", "red"], &[]).contains("--colour"));
}

#[test]
fn a_refused_database_url_does_not_show_its_password() {
    let stderr = refusal(&["--database-url", "mysql://ada:secret@localhost/x"], &[]);
    assert!(
        stderr.contains("--database-url") && !stderr.contains("secret"),
        "{stderr}"
    );
}

#[test]
fn an_address_in_use_ends_the_start_with_a_sentence() {
    let server = Server::start();
    let output = run_to_end(&["--listen", server.authority()], &[]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(server.authority()), "{stderr}");
}

#[tokio::test]
async fn a_flag_wins_over_its_variable_and_a_variable_over_the_default() {
    let directory = tempfile::TempDir::new().unwrap();
    let output = crate::support::server::command(directory.path())
        .args(["--listen", "127.0.0.1:bad"])
        .env("VITALS_LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "the flag was not read");
}

#[test]
fn an_excluded_endpoint_that_no_route_has_is_warned_of_with_the_nearest() {
    for (excluded, expected) in [
        ("/data/{id}", Some("did you mean /data/{item_id}?")),
        ("/metric", Some("did you mean /metrics?")),
        (
            "/orders",
            Some("use a route's pattern, such as /data/{item_id}, or unmatched, or *"),
        ),
        ("/data/{item_id},/metrics,/dashboard/{part}", None),
        ("unmatched,*", None),
    ] {
        let server = Server::start_with(&["--exclude", excluded]);
        let warnings = || -> Vec<String> {
            let stderr = server.stderr();
            let lines = stderr.lines().filter(|line| line.contains("--exclude"));
            lines.map(str::to_owned).collect()
        };
        let Some(expected) = expected else {
            assert_eq!(warnings(), [""; 0], "{excluded}");
            continue;
        };
        // The line is written before the address, but another thread reads it.
        let deadline = Instant::now() + Duration::from_secs(60);
        while warnings().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let [warning] = &*warnings() else {
            panic!("{excluded}: {:?}", warnings());
        };
        for part in ["WARN", excluded, expected] {
            assert!(warning.contains(part), "{part} is not in {warning}");
        }
    }
}
