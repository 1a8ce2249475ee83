//! All file descriptors are in use: open connections are served, and new ones wait until there are descriptors again.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::faults::limit;
use crate::support::exposition::Exposition;
use crate::support::server::{Server, command};
use crate::support::{tools, wait};

/// Sends a request, and returns status and body. It is an error if nothing arrives for half a minute.
fn ask(connection: &TcpStream, path: &str) -> io::Result<(u16, String)> {
    ask_within(Duration::from_secs(30), connection, path)
}

/// Sends a request, and returns status and body. It is an error if nothing arrives for `patience`.
fn ask_within(patience: Duration, connection: &TcpStream, path: &str) -> io::Result<(u16, String)> {
    connection.set_read_timeout(Some(patience))?;
    let mut reader = BufReader::new(connection);
    write!(&mut &*connection, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let lines = || head.lines().map(str::to_ascii_lowercase);
    let length = lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.expect("a length")];
    reader.read_exact(&mut body)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.expect("a status"), String::from_utf8(body).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_open_connections_are_served_and_new_ones_wait() {
    let test = "without_descriptors_open_connections_are_served_and_new_ones_wait";
    let Some(prlimit) = tools::tool(test, "prlimit") else {
        return;
    };
    let server = Server::start();
    let id = server.create("Ada").await;
    let path = format!("/data/{id}");
    let connect = || TcpStream::connect(server.authority()).unwrap();
    let open = connect();
    assert_eq!(ask(&open, &path).unwrap().0, 200);

    let used = server.scrape().await.value("process_open_fds", &[]);
    limit(&prlimit, server.pid(), &format!("--nofile={used}:"));
    let waiting: Vec<_> = (0..50).map(|_| connect()).collect();
    let unserved = waiting.iter().rev().take(2);
    for connection in unserved {
        assert!(
            ask_within(Duration::from_secs(2), connection, &path).is_err(),
            "a connection was served beyond the limit"
        );
    }
    for path in [path.as_str(), "/livez", "/readyz", "/metrics"] {
        assert_eq!(ask(&open, path).unwrap().0, 200, "{path}");
    }
    // /proc cannot be read: its families are missing, not 0, and the collector's errors are counted.
    let scrape = Exposition::parse(&ask(&open, "/metrics").unwrap().1).unwrap();
    for family in ["process_resident_memory_bytes", "process_threads"] {
        assert_eq!(scrape.get(family, &[]), None, "{family}");
    }
    // Since Linux 6.2, the descriptors are counted without a further one.
    let open_fds = scrape.get("process_open_fds", &[]);
    assert!(
        open_fds.is_none_or(|open| (open - used).abs() < 1.5),
        "{open_fds:?} of {used}"
    );
    let errors = scrape.value("vitals_collector_errors_total", &[("collector", "process")]);
    assert!(errors > 0.0, "no error was counted");

    limit(
        &prlimit,
        server.pid(),
        &format!("--nofile={}:", used + 200.0),
    );
    wait::until(
        "a new connection to be served",
        Duration::from_secs(60),
        async || match ask(&connect(), &path) {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    let log = server.log_with("Too many open files", 1).await;
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(server.stop(), Some(0));
}

/// Starts the service with these soft and hard limits. Returns the limit of descriptors that it reports, and its log.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count"
)]
fn started_with(soft: u64, hard: u64, flags: &[&str]) -> (u64, String) {
    let directory = TempDir::new().unwrap();
    let service = command(directory.path());
    let mut child = Command::new("sh")
        .args([
            "-c",
            r#"ulimit -Sn "$1" && ulimit -Hn "$2" && shift 2 && exec "$@""#,
            "sh",
        ])
        .args([soft.to_string(), hard.to_string()])
        .arg(service.get_program())
        .args([
            "--listen",
            "127.0.0.1:0",
            "--database-url",
            "sqlite://:memory:",
        ])
        .args(flags)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let authority = line.trim().strip_prefix("listening on http://").unwrap();
    let connection = TcpStream::connect(authority).unwrap();
    let (_, scrape) = ask(&connection, "/metrics").unwrap();
    let allowed = Exposition::parse(&scrape).unwrap();
    child.kill().unwrap();
    let mut log = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    child.wait().unwrap();
    (allowed.value("process_max_fds", &[]) as u64, log)
}

#[test]
fn the_descriptor_limit_is_raised_to_the_need_and_no_further() {
    let flags = ["--max-connections=500", "--pool-size=4"];
    let (allowed, log) = started_with(200, 900, &flags);
    assert_eq!(allowed, 500 + 3 * 4 + 128);
    assert!(!log.contains("file descriptors"), "{log}");

    let (allowed, log) = started_with(800, 900, &flags);
    assert_eq!(allowed, 800);
    assert!(!log.contains("file descriptors"), "{log}");

    let (allowed, log) = started_with(200, 300, &flags);
    assert_eq!(allowed, 300);
    let warning = "--max-connections (500) needs 640 file descriptors, and the system allows 300";
    assert!(log.contains(warning), "{log}");
}
