//! The load driver against the real server, and against one that miscounts.
//!
//! The promise for fifty clients: no server error, and every request counted once. `VITALS_LOAD_TIME` sets the duration of
//! their load (`5s` by default, `20s` in `make soak`).

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};

use crate::support::example::example;
use crate::support::server::Server;
use crate::support::turn::turn;

/// Runs the load driver with these arguments to its end.
fn load(arguments: &[&str]) -> Output {
    Command::new(example("load"))
        .args(arguments)
        .output()
        .expect("the load driver starts")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
async fn fifty_clients_are_counted_to_the_last_request() {
    let _turn = turn().await;
    let server = Server::start();
    let url = server.url("");
    let time = std::env::var("VITALS_LOAD_TIME").unwrap_or_else(|_| "5s".to_owned());
    let arguments = [
        "--url",
        &url,
        "--clients",
        "50",
        "--duration",
        &time,
        "--seed",
        "7",
    ];
    let output = load(&arguments);
    println!("{}", text(&output));
    assert_eq!(output.status.code(), Some(0));
    let printed = text(&output);
    for quantity in ["p50", "p90", "p95", "p99", "p99.9", "max", "a second"] {
        assert!(printed.contains(quantity), "{quantity} is not printed");
    }

    let scrape = server.scrape().await;
    for (labels, value) in scrape.series("http_requests_total") {
        assert!(
            !labels["http_status"].starts_with('5'),
            "{labels:?}: {value}"
        );
    }
    for (method, endpoint) in [
        ("POST", "/data"),
        ("GET", "/data"),
        ("GET", "/data/{item_id}"),
        ("PUT", "/data/{item_id}"),
        ("DELETE", "/data/{item_id}"),
    ] {
        let sent = scrape.sum(
            "http_requests_total",
            &[("method", method), ("endpoint", endpoint)],
        );
        assert!(sent > 0.0, "the mix has no {method} {endpoint}");
    }
    let in_progress = scrape.value("inprogress_requests", &[]);
    assert!(
        (0.0..=1.0).contains(&in_progress),
        "{in_progress} in progress"
    );
}

#[test]
fn a_server_that_miscounts_is_found_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // One read holds the whole of such a small request, or else the client sees a reset: fine either way.
            let _read = stream.read(&mut [0; 8192]);
            let body = "inprogress_requests 1\nhttp_requests_total{method=\"GET\",endpoint=\"/metrics\",http_status=\"200\"} 4\n";
            let _written = write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let output = load(&[
        "--url",
        &url,
        "--clients",
        "1",
        "--duration",
        "200ms",
        "--mix",
        "0:1:0:0",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let printed = text(&output);
    assert!(
        printed.contains("differ") && printed.contains("GET     /data "),
        "{printed}"
    );
}

#[test]
fn bad_use_is_told_apart_from_a_difference() {
    for arguments in [
        ["--mix", "1:2:3"],
        ["--mix", "0:0:0:0"],
        ["--mix", "a:b:c:d"],
        ["--clients", "0"],
        ["--duration", "long"],
        ["--url", "http://127.0.0.1:1"],
        ["--speed", "high"],
    ] {
        let output = load(&arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            text(&output)
        );
        assert!(!output.stderr.is_empty(), "{arguments:?}: no word of why");
    }
}

#[test]
fn help_tells_how_to_use_it() {
    let output = load(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output);
    for flag in ["--url", "--clients", "--duration", "--mix", "--seed"] {
        assert!(help.contains(flag), "{flag} is not in\n{help}");
    }
}
