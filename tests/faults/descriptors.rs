//! All file descriptors are in use: no new connection is taken in, those that are open are served, and when there are
//! descriptors again, so are those that have waited.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::exposition::Exposition;
use crate::server::Server;
use crate::{limit, tools, wait};

/// Sends a request on a connection, and reads its answer: the status, if all of it comes within two seconds of silence.
fn ask(connection: &TcpStream, path: &str) -> io::Result<(u16, String)> {
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
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
async fn without_descriptors_the_open_connections_are_served_and_the_others_later() {
    let test = "without_descriptors_the_open_connections_are_served_and_the_others_later";
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
        assert!(ask(connection, &path).is_err(), "the limit was not felt");
    }
    for path in [path.as_str(), "/livez", "/readyz", "/metrics"] {
        assert_eq!(ask(&open, path).unwrap().0, 200, "{path}");
    }
    // Nothing under /proc can be read: what it would say is missing, and not 0. The collector's errors are counted.
    let scrape = Exposition::parse(&ask(&open, "/metrics").unwrap().1).unwrap();
    for family in [
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_threads",
    ] {
        assert_eq!(scrape.get(family, &[]), None, "{family}");
    }
    let errors = scrape.value("vitals_collector_errors_total", &[("collector", "process")]);
    assert!(errors > 0.0, "no error was counted");

    limit(
        &prlimit,
        server.pid(),
        &format!("--nofile={}:", used + 200.0),
    );
    wait::until(
        "a new connection to be served",
        Duration::from_secs(10),
        async || match ask(&connect(), &path) {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    let log = server.stderr();
    assert!(log.contains("Too many open files"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(server.stop(), Some(0));
}
