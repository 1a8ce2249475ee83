//! Answers that a client reads slowly and steadily, while their connection ends for another reason. Each arrives as a whole.

use std::io;
use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::limits::guarded::{BOUND, Guarded};
use crate::support::server::Server;

/// Windows of 8 MiB, and `GET /data` on the first stream.
const GET_OVER_HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \0\0\x06\x04\0\0\0\0\0\0\x04\0\x80\0\0\
    \0\0\x04\x08\0\0\0\0\0\0\x80\0\0\
    \0\0\x0c\x01\x05\0\0\0\x01\x82\x86\x44\x05/data\x41\x01a";

/// Extends the window of the connection by a byte, which a client does as it reads.
const WINDOW_UPDATE: &[u8] = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01";

const GET_OVER_HTTP_1: &[u8] = b"GET /data HTTP/1.1\r\nHost: a\r\n\r\n";

/// Stores items whose list has somewhat more than `kilobytes`.
pub(crate) async fn store(server: &Server, kilobytes: usize) {
    let message = "x".repeat(20_000);
    let item = serde_json::json!({"name": "a", "email": "a@example.com", "message": message});
    for _ in 0..kilobytes.div_ceil(20) {
        server.send(Method::POST, "/data", &item).await;
    }
}

/// A client that requests `/data` and reads it slowly. The system receives hardly more than it reads.
pub(crate) struct SlowReader {
    stream: TcpStream,
    is_http_2: bool,
    received: Vec<u8>,
    end: Option<io::Result<()>>,
}

impl SlowReader {
    pub(crate) async fn ask(authority: &str, is_http_2: bool) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(authority.parse().unwrap()).await.unwrap();
        let request = if is_http_2 {
            GET_OVER_HTTP_2
        } else {
            GET_OVER_HTTP_1
        };
        stream.write_all(request).await.unwrap();
        Self {
            stream,
            is_http_2,
            received: Vec::new(),
            end: None,
        }
    }

    /// Reads this many bytes, or up to the end of the connection.
    pub(crate) async fn read(&mut self, bytes: usize) {
        let wanted = self.received.len() + bytes;
        let mut buffer = vec![0; bytes];
        while self.received.len() < wanted && self.end.is_none() {
            let room = wanted - self.received.len();
            let read = timeout(BOUND, self.stream.read(&mut buffer[..room])).await;
            match read.expect("the rest or an end") {
                Ok(0) => self.end = Some(Ok(())),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) => self.end = Some(Err(error)),
            }
        }
        if self.is_http_2 {
            // Fails once the server has closed the connection.
            let _closed = self.stream.write_all(WINDOW_UPDATE).await;
        }
    }

    /// Reads the rest slowly, up to the end of the connection, and checks that the answer has arrived as a whole.
    pub(crate) async fn read_to_the_end(mut self, bytes_each: usize) {
        while self.end.is_none() {
            self.read(bytes_each).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let received = self.received.len();
        let end = self.end.as_ref();
        if self.is_http_2 {
            let whole = frames(&self.received)
                .iter()
                .any(|frame| frame.kind == 0 && frame.stream == 1 && frame.flags & 1 == 1);
            assert!(whole, "{received} bytes, then {end:?}");
        } else {
            let text = String::from_utf8_lossy(&self.received);
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            let length = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            assert_eq!(Some(body.len()), length, "{received} bytes, then {end:?}");
        }
    }
}

/// A frame without its content.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

/// The complete frames at the start of these bytes.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [high, middle, low, kind, flags, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let Some(next) = rest.get(length..) else {
            break;
        };
        frames.push(Frame {
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes([*a, *b, *c, *d]),
        });
        bytes = next;
    }
    frames
}

/// The answer fits into the system's buffers, so that the connection is idle while its client still reads.
#[tokio::test]
async fn an_answer_whose_client_still_reads_outlasts_the_idle_limit() {
    let guarded = Guarded::start(&["--idle-timeout=1s"]);
    store(&guarded.server, 140).await;
    for is_http_2 in [false, true] {
        let mut client = SlowReader::ask(guarded.server.authority(), is_http_2).await;
        client.read(100).await;
        client.read_to_the_end(3_000).await;
    }
    guarded.wait_for_quiet().await;
    let idle = guarded.ended("idle").await;
    assert!(idle >= 2, "{:?}", guarded.outcomes().await);
}
