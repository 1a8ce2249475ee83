//! Every numeric setting at its bounds and beyond them: the service serves, or exits with an error message and status 2.

use std::collections::BTreeSet;
use std::thread;

use crate::support::server::{Server, run_to_end};

/// A flag, with accepted and rejected values.
struct Numeric {
    flag: &'static str,
    accepted: &'static [&'static str],
    rejected: &'static [&'static str],
}

/// Values that are not numbers.
const NOT_NUMBERS: [&str; 9] = [
    "-1",
    "many",
    "1.5",
    "0x10",
    "1e3",
    " 1",
    "٣",
    "99999999999999999999999999",
    "NaN",
];

const NUMERIC: &[Numeric] = &[
    count(
        "--workers",
        &["1", "512"],
        &["0", "513", "1024", "18446744073709551616"],
    ),
    count(
        "--pool-size",
        &["1", "10000"],
        &["0", "10001", "4294967296"],
    ),
    count("--max-connections", &["1", "1000000"], &["0", "1000001"]),
    count(
        "--max-connections-per-address",
        &["1", "1000000"],
        &["0", "1000001"],
    ),
    count("--max-headers", &["1", "96"], &["0", "97"]),
    count(
        "--max-header-bytes",
        &["1024", "1KiB", "128KiB"],
        &["0", "1023", "131073", "129KiB", "1MiB"],
    ),
    count(
        "--body-limit",
        &["1024", "64MiB"],
        &["0", "1023", "67108865", "65MiB", "18446744073709551615GiB"],
    ),
    count("--json-depth", &["1", "127"], &["0", "128"]),
    count(
        "--answer-memory",
        &["32MiB", "1024GiB"],
        &["0", "33554431", "1025GiB"],
    ),
    count("--max-series", &["1", "1000000"], &["0", "1000001"]),
    count("--native-buckets", &["1", "10000"], &["0", "10001"]),
    count(
        "--n-plus-one",
        &["0", "1", "1000000"],
        &["1000001", "4294967296"],
    ),
    count("--statements", &["1", "100000"], &["0", "100001"]),
    count(
        "--keep-requests",
        &["0", "1", "2500"],
        &["2501", "4294967296"],
    ),
    count(
        "--head-timeout",
        &["1s", "1day"],
        &["0s", "0", "86401s", "1"],
    ),
    count(
        "--body-timeout",
        &["1ns", "1day"],
        &["0s", "0", "86401s", "1"],
    ),
    count(
        "--response-timeout",
        &["1s", "1day"],
        &["0s", "0", "86401s", "1"],
    ),
    count(
        "--idle-timeout",
        &["1s", "1day"],
        &["0s", "0", "86401s", "1"],
    ),
    count(
        "--pool-timeout",
        &["1s", "1day"],
        &["0s", "0", "86401s", "1"],
    ),
    count("--pool-check-after", &["0s", "1day"], &["86401s", "1"]),
    count("--stall-threshold", &["1ns", "24h"], &["0s", "86401s", "1"]),
    count("--leak-threshold", &["0s", "24h"], &["86401s", "1"]),
    count("--slow-query", &["0s", "24h"], &["86401s", "1"]),
    count("--drain-delay", &["0s", "1ns"], &["86401s", "1"]),
    count(
        "--shutdown-timeout",
        &["0s", "1ns", "1day"],
        &["86401s", "1"],
    ),
    count(
        "--otlp-interval",
        &["100ms", "1day"],
        &["0s", "99ms", "86401s", "1"],
    ),
    count(
        "--latency-buckets",
        &["0.000001", "1e300"],
        &["0", "-0", "inf", "1e309", "1,1", ","],
    ),
];

const fn count(
    flag: &'static str,
    accepted: &'static [&'static str],
    rejected: &'static [&'static str],
) -> Numeric {
    Numeric {
        flag,
        accepted,
        rejected,
    }
}

/// Runs `work` for each setting on two threads, because each start takes time.
fn for_each_setting(work: impl Fn(&Numeric) + Sync) {
    let (first, second) = NUMERIC.split_at(NUMERIC.len() / 2);
    thread::scope(|scope| {
        scope.spawn(|| first.iter().for_each(&work));
        second.iter().for_each(&work);
    });
}

#[test]
fn every_numeric_setting_is_in_the_table() {
    let help = String::from_utf8(run_to_end(&["--help"], &[]).stdout).unwrap();
    let numeric = ["<COUNT>", "<SIZE>", "<DURATION>", "<SECONDS>"];
    let flags: BTreeSet<_> = help
        .lines()
        .filter(|line| numeric.iter().any(|name| line.contains(name)))
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")))
        .collect();
    let tried: BTreeSet<_> = NUMERIC.iter().map(|setting| setting.flag).collect();
    assert_eq!(tried, flags);
}

#[test]
fn a_number_out_of_range_is_one_error_message() {
    for_each_setting(|setting| {
        // The buckets are floating-point seconds.
        let not_numbers = NOT_NUMBERS.iter().filter(|value| {
            setting.flag != "--latency-buckets"
                || !["1e3", "1.5", " 1", "99999999999999999999999999"].contains(value)
        });
        for value in setting.rejected.iter().chain(not_numbers) {
            let flag = format!("{}={value}", setting.flag);
            let output = run_to_end(&[&flag, "--listen=127.0.0.1:0"], &[]);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{flag}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{flag}: {stderr}");
            assert!(
                stderr.starts_with(&format!("actix-vitals: {} ", setting.flag)),
                "{flag}: {stderr}"
            );
            assert!(stderr.ends_with(".\n"), "{flag}: {stderr}");
            assert!(
                output.stdout.is_empty(),
                "{flag}: it reported that it listens"
            );
        }
    });
}

#[test]
fn numbers_at_their_bounds_are_accepted() {
    for_each_setting(|setting| {
        for value in setting.accepted {
            let flag = format!("{}={value}", setting.flag);
            let server = Server::start_with(&[&flag]);
            let request = "GET /data HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned();
            let request = match setting.flag {
                "--max-headers" => request.replace("Connection: close\r\n", ""),
                _ => request,
            };
            let answer = ask(&server, &request);
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\n"),
                "{flag}: {answer}"
            );
            assert_eq!(server.stop(), Some(0), "{flag}");
        }
    });
}

/// Sends a request, and returns the first bytes of the answer.
fn ask(server: &Server, request: &str) -> String {
    use std::io::{Read as _, Write as _};

    let mut connection = std::net::TcpStream::connect(server.authority()).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 17];
    connection.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
