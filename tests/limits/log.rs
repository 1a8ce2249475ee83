//! Errors of clients are counted and not logged: no client can fill the log.

use crate::limits::guarded::{Guarded, Raw};

/// The preface of an HTTP/2 connection, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = u32::try_from(content.len()).unwrap().to_be_bytes();
    let head = [high, middle, low, kind, flags];
    [&head, stream.to_be_bytes().as_slice(), content].concat()
}

/// A request without a body: `GET /` of `http://a`.
fn get(stream: u32) -> Vec<u8> {
    frame(1, 5, stream, b"\x82\x84\x86\x41\x01a")
}

#[tokio::test]
async fn no_client_error_is_logged() {
    // The log has no line about a busy machine.
    let guarded = Guarded::start(&["--stall-threshold=24h"]);
    // When both listeners answer, the lines of the start have been written.
    guarded.server.get("/").await;
    guarded.scrape().await;
    let started = guarded.server.stderr().lines().count();
    let streams = || (0..500).map(|number| 2 * number + 1);
    let many = |frames: Vec<u8>| [PREFACE, &frames].concat();
    for (bytes, why) in [
        (
            many(frame(6, 1, 0, &[7; 8]).repeat(1000)),
            "acknowledgements without a ping",
        ),
        (many(frame(6, 0, 0, &[7; 8]).repeat(1000)), "pings"),
        (
            many(
                streams()
                    .flat_map(|stream| [get(stream), frame(3, 0, stream, &[0; 4])].concat())
                    .collect(),
            ),
            "requests that are reset",
        ),
        (
            many(
                streams()
                    .flat_map(|stream| frame(1, 5, stream, b"\x82\x84"))
                    .collect(),
            ),
            "requests without a scheme",
        ),
        (
            many(
                streams()
                    .flat_map(|stream| [get(stream), frame(8, 0, stream, &[0; 4])].concat())
                    .collect(),
            ),
            "window updates of 0",
        ),
        (
            many(frame(3, 0, 1, &[0; 4]).repeat(100)),
            "resets of an idle stream",
        ),
        (many(vec![0xff; 100]), "bytes that are not a frame"),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            "TLS",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".to_vec(),
            "a length that is not a number",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n".repeat(100),
            "a header with a zero byte",
        ),
    ] {
        for _ in 0..20 {
            let mut raw = Raw::to(guarded.server.authority()).await;
            raw.send(&bytes).await;
            raw.hang_up().await;
            raw.end().await;
        }
        let log = guarded.server.stderr();
        let lines: Vec<&str> = log.lines().skip(started).collect();
        assert!(lines.is_empty(), "{why}: {lines:#?}");
    }
}
