//! Which settings are valid, and the messages about those that are not.

mod document;

use super::*;

fn load(flags: &[&str]) -> Result<Settings, Stop> {
    Settings::load(std::iter::once("actix-vitals").chain(flags.iter().copied()))
}

fn error(flags: &[&str]) -> String {
    match load(flags) {
        Err(Stop::BadSetting(sentence)) => sentence,
        other => panic!("{flags:?}: {other:?}"),
    }
}

#[test]
fn the_command_is_consistent() {
    Settings::command().debug_assert();
}

#[test]
fn the_defaults_are_as_promised() {
    let settings = load(&[]).unwrap();
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(settings.server.ops_listen, None);
    assert_eq!(settings.server.workers, None);
    assert_eq!(settings.limits.body_limit, 65_536);
    assert_eq!(settings.limits.answer_memory, 256 << 20);
    assert_eq!(settings.server.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(settings.access.web_config, None);
    assert_eq!(settings.access.ops_token_file, None);
    assert!(!settings.access.open_livez);
    assert_eq!(settings.access.tls_cert, None);
    assert_eq!(settings.access.tls_key, None);
    assert_eq!(
        settings.database.url,
        DatabaseUrl::Sqlite(SqliteLocation::File("vitals.db".into()))
    );
    assert_eq!(settings.database.pool_size, 10);
    assert_eq!(settings.database.pool_timeout, Duration::from_secs(2));
    assert_eq!(settings.metrics.max_series, 2000);
    assert_eq!(settings.metrics.native_buckets, 160);
    assert_eq!(settings.metrics.latency_buckets, None);
    assert_eq!(settings.metrics.naming, Naming::Vitals);
    assert_eq!(settings.metrics.exclude, Vec::<String>::new());
    assert_eq!(settings.metrics.n_plus_one, actix_vitals::N_PLUS_ONE);
    assert_eq!(settings.metrics.statements, 1000);
    assert!(!settings.metrics.server_timing);
    assert_eq!(
        settings.log.filter.to_string(),
        "info,actix_http=off,h2=off"
    );
    assert_eq!(settings.log.format, LogFormat::Text);
}

#[test]
fn every_flag_is_accepted() {
    let settings = load(&[
        "--listen=[::1]:0",
        "--ops-listen=127.0.0.1:9100",
        "--workers=3",
        "--body-limit=1MiB",
        "--shutdown-timeout=1m30s",
        "--web-config=web.yml",
        "--ops-token-file=token",
        "--open-livez",
        "--tls-cert=cert.pem",
        "--tls-key=key.pem",
        "--database-url=:memory:",
        "--pool-size=2",
        "--pool-timeout=500ms",
        "--max-series=10",
        "--native-buckets=20",
        "--latency-buckets=0.1, 1,10",
        "--naming=otel",
        "--exclude=/livez,/data/{item_id}",
        "--exclude=unmatched",
        "--n-plus-one=0",
        "--statements=5000",
        "--server-timing",
        "--log=warn,actix_vitals=debug",
        "--log-format=json",
    ])
    .unwrap();
    assert_eq!(settings.server.listen.to_string(), "[::1]:0");
    assert_eq!(
        settings.server.ops_listen.unwrap().to_string(),
        "127.0.0.1:9100"
    );
    assert_eq!(settings.server.workers, Some(3));
    assert_eq!(settings.limits.body_limit, 1_048_576);
    assert_eq!(settings.server.shutdown_timeout, Duration::from_secs(90));
    assert_eq!(settings.access.web_config, Some("web.yml".into()));
    assert_eq!(settings.access.ops_token_file, Some("token".into()));
    assert!(settings.access.open_livez);
    assert_eq!(settings.access.tls_cert, Some("cert.pem".into()));
    assert_eq!(settings.access.tls_key, Some("key.pem".into()));
    assert_eq!(
        settings.database.url,
        DatabaseUrl::Sqlite(SqliteLocation::Memory)
    );
    assert_eq!(settings.database.pool_size, 2);
    assert_eq!(settings.database.pool_timeout, Duration::from_millis(500));
    assert_eq!(settings.metrics.max_series, 10);
    assert_eq!(settings.metrics.native_buckets, 20);
    let buckets = settings.metrics.latency_buckets.unwrap();
    assert_eq!(buckets.as_slice(), [0.1, 1.0, 10.0]);
    assert_eq!(settings.metrics.naming, Naming::OpenTelemetry);
    assert_eq!(
        settings.metrics.exclude,
        ["/livez", "/data/{item_id}", "unmatched"]
    );
    assert_eq!(settings.metrics.n_plus_one, 0);
    assert_eq!(settings.metrics.statements, 5000);
    assert!(settings.metrics.server_timing);
    assert_eq!(settings.log.filter.to_string(), "warn,actix_vitals=debug");
    assert_eq!(settings.log.format, LogFormat::Json);
}

#[test]
fn a_value_of_a_flag_that_takes_none_is_an_error_that_names_the_flag() {
    for value in ["yes", "on", "false", ""] {
        assert_eq!(
            error(&[&format!("--profiling={value}")]),
            "--profiling (VITALS_PROFILING) takes no value as a flag: its name alone turns it on."
        );
    }
}

#[test]
fn the_error_of_an_invalid_value_is_one_sentence_with_the_name_of_the_setting() {
    for (flag, value, why) in [
        ("--listen", "localhost", "a host name is not an address"),
        ("--listen", "127.0.0.1", "no port"),
        ("--listen", "127.0.0.1:65536", "no such port"),
        ("--listen", "", "empty"),
        ("--ops-listen", "9100", "no address"),
        ("--workers", "0", "no worker"),
        ("--workers", "two", "not a number"),
        ("--workers", "-1", "negative"),
        ("--answer-memory", "31MiB", "too little for a history"),
        ("--answer-memory", "1025GiB", "too large"),
        ("--answer-memory", "256MB", "an unknown unit"),
        ("--answer-memory", "18446744073709551615GiB", "overflows"),
        ("--body-limit", "0", "too small"),
        ("--body-limit", "64KB", "an unknown unit"),
        ("--body-limit", "KiB", "not a number"),
        ("--body-limit", "1.5MiB", "a fraction"),
        ("--body-limit", "99999999999999999999", "overflows"),
        ("--body-limit", "18446744073709551615KiB", "overflows"),
        ("--shutdown-timeout", "30", "no unit"),
        ("--shutdown-timeout", "2 days", "too long"),
        ("--pool-size", "0", "zero"),
        ("--pool-size", "1e3", "not a whole number"),
        ("--pool-timeout", "0s", "zero"),
        ("--pool-timeout", "-2s", "negative"),
        ("--max-series", "0", "zero"),
        ("--native-buckets", "0", "zero"),
        ("--naming", "OTel", "capitals"),
        ("--latency-buckets", "", "empty"),
        ("--latency-buckets", "1,fast", "not a number"),
        ("--latency-buckets", "0,1", "zero"),
        ("--latency-buckets", "-1,1", "negative"),
        ("--latency-buckets", "1,inf", "not finite"),
        ("--latency-buckets", "1,NaN", "not a number"),
        ("--latency-buckets", "1,1", "twice the same"),
        ("--latency-buckets", "2,1", "falling"),
        ("--exclude", "livez", "not a pattern"),
        ("--n-plus-one", "-1", "negative"),
        ("--n-plus-one", "often", "not a number"),
        ("--statements", "0", "zero"),
        ("--statements", "100001", "too many"),
        ("--statements", "all", "not a number"),
        ("--log", "loud", "not a level"),
        ("--log", "info,actix=loud", "not a level of a target"),
        ("--log", "", "empty"),
        ("--log-format", "xml", "unknown"),
        ("--database-url", "", "empty"),
    ] {
        let sentence = error(&[&format!("{flag}={value}")]);
        assert!(sentence.starts_with(flag), "{why}: {sentence}");
        assert!(sentence.contains(" must "), "{why}: {sentence}");
        assert!(sentence.ends_with('.'), "{why}: {sentence}");
        assert!(!sentence.contains('\n'), "{why}: {sentence}");
    }
}

#[test]
fn an_error_names_the_variable_as_well() {
    assert_eq!(
        error(&["--workers", "none"]),
        "--workers (VITALS_WORKERS) must be a whole number from 1 to 512, not `none`."
    );
}

#[test]
fn a_negative_number_is_an_invalid_value_and_no_flag() {
    for (flags, expected) in [
        (
            ["--shutdown-timeout", "-1s"],
            "--shutdown-timeout (VITALS_SHUTDOWN_TIMEOUT) must be a duration of at most a day, such as 500ms, 2s or 1m30s, not `-1s`.",
        ),
        (
            ["--workers", "-1"],
            "--workers (VITALS_WORKERS) must be a whole number from 1 to 512, not `-1`.",
        ),
        (
            ["--latency-buckets", "-1,1"],
            "--latency-buckets (VITALS_LATENCY_BUCKETS) must list positive numbers of seconds, such as 0.01,0.1,1, not `-1`.",
        ),
    ] {
        assert_eq!(error(&flags), expected);
    }
}

#[test]
fn an_empty_variable_counts_as_unset_except_for_that_of_the_database() {
    let command = without_variables(Settings::command(), |_| true);
    let variables: Vec<_> = command
        .get_arguments()
        .filter_map(clap::Arg::get_env)
        .collect();
    assert_eq!(variables, ["DATABASE_URL"]);
}

#[test]
fn no_error_repeats_the_database_url() {
    for flags in [
        &["--database-url", "mysql://me:s3cret@host/db"][..],
        &["--database-url=mysql://me:s3cret@host/db"],
        &["--database-ulr=postgres://me:s3cret@host/db"],
        &["--database-ulr", "postgres://me:s3cret@host/db"],
        &["postgres://me:s3cret@host/db"],
        &["--", "postgres://me:s3cret@host/db"],
        &["-Dpostgres://me:s3cret@host/db"],
        &[
            "--database-url=a.db",
            "--database-url=postgres://me:s3cret@host/db",
        ],
        &["--database-url", "a.db", "postgres://me:s3cret@host/db"],
        &["--database-url", "Postgres:me:s3cret@host/db"],
        &["--database-url", "me:s3cret@host/db"],
        &["--database-url", "postgres://me:pa\"s3cret%zz@host/db"],
        &["--database-url", "postgres://me:12?s3cret=b@host/db"],
    ] {
        let sentence = error(flags);
        assert!(!sentence.contains("s3cret"), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
    }
}

#[test]
fn an_unknown_flag_and_a_missing_value_are_named() {
    assert_eq!(
        error(&["--lissten=1.2.3.4:5"]),
        "There is no flag --lissten; --help lists all flags."
    );
    assert_eq!(
        error(&["--listen"]),
        "--listen (VITALS_LISTEN) needs a value."
    );
}

#[test]
fn help_contains_every_flag_with_its_variable() {
    let Err(Stop::Answer(help)) = load(&["--help"]) else {
        panic!("--help must be answered");
    };
    let help = help.to_string();
    let command = Settings::command();
    for argument in command.get_arguments() {
        let Some(variable) = argument.get_env() else {
            continue;
        };
        let flag = format!("--{}", argument.get_long().unwrap());
        assert!(help.contains(&flag), "{flag}");
        assert!(help.contains(variable.to_str().unwrap()), "{flag}");
    }
    for heading in ["Server:", "Database:", "Metrics:", "Logging:", "Examples:"] {
        assert!(help.contains(heading), "{heading}");
    }
}

#[test]
fn a_size_is_accepted_at_both_ends_of_its_range_and_in_every_unit() {
    for (text, bytes) in [
        ("32MiB", 32 << 20),
        ("33554432", 32 << 20),
        ("262144KiB", 256 << 20),
        ("1GiB", 1 << 30),
        ("1024 GiB", 1 << 40),
    ] {
        let flag = format!("--answer-memory={text}");
        assert_eq!(
            load(&[&flag]).unwrap().limits.answer_memory,
            bytes,
            "{text}"
        );
    }
}
