//! Pipelined requests: each gets the answer that it would get alone, in order, however the bytes are split. Nothing behind
//! the last request of a connection is executed.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use crate::support::server::Server;

/// A request, and the expected answer.
#[derive(Debug, Clone)]
struct Exchange {
    request: String,
    answer: Answer,
}

/// An answer, without its date.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status_line: String,
    connection: Option<String>,
    length: Option<usize>,
    body: String,
}

/// Reads answers off a connection, one after the other.
struct Answers {
    connection: TcpStream,
    read: Vec<u8>,
}

impl Answers {
    fn new(connection: TcpStream) -> Self {
        connection
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        connection.set_nodelay(true).unwrap();
        Self {
            connection,
            read: Vec::new(),
        }
    }

    /// Reads more; `false` if the connection has ended.
    fn fill(&mut self) -> bool {
        let mut part = [0; 4096];
        match self.connection.read(&mut part) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&part[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&self.read)),
        }
    }

    /// The next head; `None` if the connection has ended.
    fn head(&mut self) -> Option<String> {
        loop {
            let end = self.read.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.read.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.fill() {
                let rest = String::from_utf8_lossy(&self.read);
                assert_eq!(rest, "", "not the head of an answer");
                return None;
            }
        }
    }

    fn next(&mut self, is_head: bool) -> Option<Answer> {
        let head = self.head()?;
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (found, value) = line.split_once(": ")?;
                found.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        assert_eq!(header("transfer-encoding"), None, "{head}");
        let length = header("content-length").map(|length| length.parse().unwrap());
        let bytes = match length {
            Some(length) if !is_head => length,
            _ => 0,
        };
        while self.read.len() < bytes {
            assert!(self.fill(), "the body has ended early: {head}");
        }
        let body = self.read.drain(..bytes).collect();
        Some(Answer {
            status_line: head.lines().next().unwrap().to_owned(),
            connection: header("connection"),
            length,
            body: String::from_utf8(body).unwrap(),
        })
    }

    /// Returns the bytes until the connection ends.
    fn rest(mut self) -> String {
        while self.fill() {}
        String::from_utf8(self.read).unwrap()
    }
}

fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.authority()).unwrap()
}

/// Sends the request alone, and returns it with its answer.
fn alone(server: &Server, request: String) -> Exchange {
    let mut answers = Answers::new(connect(server));
    answers.connection.write_all(request.as_bytes()).unwrap();
    let answer = answers.next(request.starts_with("HEAD")).unwrap();
    Exchange { request, answer }
}

/// Requests that keep their connection: each method, each kind of body, both versions.
fn kept(server: &Server) -> Vec<Exchange> {
    let item = r#"{"name": ""}"#;
    let chunks = format!(
        "5\r\n{}\r\n{:x};a=b\r\n{}\r\n0\r\nX: y\r\n\r\n",
        &item[..5],
        item.len() - 5,
        &item[5..]
    );
    let keep = "Connection: keep-alive\r\n";
    [
        "GET /data/1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "HEAD /data/1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /none HTTP/1.1\nHost: a\n\n".to_owned(),
        "HEAD /none HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!("GET /data/1 HTTP/1.0\r\n{keep}\r\n"),
        format!("HEAD /data/1 HTTP/1.0\r\n{keep}\r\n"),
        "PUT /data/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(),
        format!(
            "POST /data HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{item}",
            item.len()
        ),
        format!(
            "POST /data HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        ),
        format!("GET /data/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
    ]
    .into_iter()
    .map(|request| alone(server, request))
    .collect()
}

/// Sends the requests, and checks the answers in order.
fn expect(server: &Server, exchanges: &[&Exchange], step: usize) {
    let mut answers = Answers::new(connect(server));
    let bytes: String = exchanges.iter().map(|one| one.request.as_str()).collect();
    for piece in bytes.as_bytes().chunks(step) {
        answers.connection.write_all(piece).unwrap();
    }
    for (place, exchange) in exchanges.iter().enumerate() {
        let answer = answers.next(exchange.request.starts_with("HEAD"));
        assert_eq!(
            answer.as_ref(),
            Some(&exchange.answer),
            "number {place} of {bytes:?}, {step} bytes at a time"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_two_requests_in_one_write_is_answered_as_if_alone() {
    let server = Server::start();
    assert_eq!(server.create("Ada").await, 1);
    let kept = kept(&server);
    let statuses: Vec<_> = kept.iter().map(|one| &one.answer.status_line).collect();
    let expected = [
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 404 Not Found",
        "HTTP/1.1 404 Not Found",
        "HTTP/1.0 200 OK",
        "HTTP/1.0 200 OK",
    ];
    assert_eq!(statuses[..6], expected.each_ref());
    for first in &kept {
        for second in &kept {
            expect(&server, &[first, second], usize::MAX);
            expect(&server, &[first, second, first], 1 << 20);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_in_step_wherever_they_are_split() {
    let server = Server::start();
    assert_eq!(server.create("Ada").await, 1);
    let kept = kept(&server);
    let all: Vec<_> = kept.iter().collect();
    for step in [1, 2, 3, 7, 64, 1000] {
        expect(&server, &all, step);
        let reversed: Vec<_> = all.iter().rev().copied().collect();
        expect(&server, &reversed, step);
    }
    // Two writes with a pause, split at every byte.
    let pair = [&kept[8], &kept[1], &kept[0]];
    let bytes: String = pair.iter().map(|one| one.request.as_str()).collect();
    for cut in 1..bytes.len() {
        let mut answers = Answers::new(connect(&server));
        answers
            .connection
            .write_all(&bytes.as_bytes()[..cut])
            .unwrap();
        sleep(Duration::from_millis(2));
        answers
            .connection
            .write_all(&bytes.as_bytes()[cut..])
            .unwrap();
        for exchange in pair {
            let answer = answers.next(exchange.request.starts_with("HEAD"));
            assert_eq!(answer.as_ref(), Some(&exchange.answer), "cut at {cut}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pipelined_requests_are_all_answered_on_one_connection() {
    let server = Server::start();
    assert_eq!(server.create("Ada").await, 1);
    let kept = kept(&server);
    let ten = vec![&kept[0]; 10];
    expect(&server, &ten, usize::MAX);
    // More than the server reads ahead.
    let thousand: Vec<_> = (0..1000).map(|number| &kept[number % 2]).collect();
    expect(&server, &thousand, usize::MAX);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_behind_the_last_request_is_executed() {
    let server = Server::start();
    assert_eq!(server.create("Ada").await, 1);
    let delete = "DELETE /data/1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunks = "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (last, status) in [
        ("GET /data/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(), 200),
        ("HEAD /data/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(), 200),
        ("GET /data/1 HTTP/1.0\r\n\r\n".to_owned(), 200),
        (format!("GET /data/1 HTTP/1.1\r\nHost: a\r\n{chunks}"), 200),
        (format!("PUT /data/1 HTTP/1.1\r\nHost: a\r\n{chunks}"), 415),
        ("GET /data/1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n".to_owned(), 200),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".to_owned(), 404),
        ("POST /data HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nContent-Length: 9\r\n\r\n".to_owned(), 400),
        ("POST /data HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
        ("GET /data/1 HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n".to_owned(), 400),
    ] {
        for step in [usize::MAX, 1] {
            let mut connection = connect(&server);
            connection.set_nodelay(true).unwrap();
            for piece in format!("{last}{delete}").as_bytes().chunks(step) {
                if connection.write_all(piece).is_err() {
                    break;
                }
            }
            let answers = Answers::new(connection).rest();
            let statuses: Vec<_> = answers
                .split("HTTP/1.")
                .skip(1)
                .map(|answer| answer[2..5].parse::<u16>().unwrap())
                .collect();
            assert_eq!(statuses, [status], "{last:?}, {step} at a time: {answers}");
        }
    }
    let mut answers = Answers::new(connect(&server));
    answers.connection.write_all(delete.as_bytes()).unwrap();
    let status_line = answers.next(false).unwrap().status_line;
    assert_eq!(status_line, "HTTP/1.1 200 OK", "it was deleted before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_expects_100_gets_it_with_another_request_behind() {
    let server = Server::start();
    let head = "POST /data HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Expect: 100-continue\r\nContent-Length: 43\r\n\r\n");
    let mut answers = Answers::new(connect(&server));
    for _ in 0..3 {
        answers.connection.write_all(request.as_bytes()).unwrap();
        assert_eq!(answers.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
        let item = r#"{"name": "Ada", "email": "ada@example.com"}"#;
        let rest = format!("{item}HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n");
        answers.connection.write_all(rest.as_bytes()).unwrap();
        assert_eq!(
            answers.next(false).unwrap().status_line,
            "HTTP/1.1 201 Created"
        );
        assert_eq!(answers.next(true).unwrap().status_line, "HTTP/1.1 200 OK");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_its_sending_half_gets_the_answers_to_its_requests() {
    let server = Server::start();
    let request = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut connection = connect(&server);
    connection.write_all(request.repeat(3).as_bytes()).unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let answers = Answers::new(connection).rest();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_to_an_http_1_0_client_ends_with_its_connection() {
    let server = Server::start();
    for connection in ["", "Connection: keep-alive\r\n"] {
        let mut answers = Answers::new(connect(&server));
        let request = format!("GET /dashboard/stream HTTP/1.0\r\n{connection}\r\n");
        answers.connection.write_all(request.as_bytes()).unwrap();
        let head = answers.head().unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.0 200 ok\r\n"), "{head}");
        for header in ["transfer-encoding", "content-length", "keep-alive\r\n"] {
            assert!(!head.contains(header), "{header} in {head}");
        }
        while answers.read.len() < 4 {
            assert!(answers.fill());
        }
        let begin = String::from_utf8_lossy(&answers.read).into_owned();
        let is_event = ["id: ", "even", "data", "retr", ": "];
        assert!(
            is_event.iter().any(|field| begin.starts_with(field)),
            "{begin:?}"
        );
    }
    // An answer of known length has a `Content-Length`, and the connection is kept if the client asks for that.
    let mut answers = Answers::new(connect(&server));
    for _ in 0..3 {
        let request = "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        answers.connection.write_all(request.as_bytes()).unwrap();
        let answer = answers.next(false).unwrap();
        assert_eq!(answer.status_line, "HTTP/1.0 200 OK");
        assert_eq!(answer.connection.as_deref(), Some("keep-alive"));
        assert_eq!(answer.length, Some(answer.body.len()));
    }
}
