//! Compares the extent of requests with Actix' codec: both must find the same ends.

use actix_http::{
    ServiceConfig,
    h1::{Codec, Message, MessageType},
};
use actix_web::web::BytesMut;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio_util::codec::Decoder as _;

use super::*;

/// The bytes of the first request as Actix reads it. `None` if Actix rejects it or waits for more.
fn by_actix(config: &ServiceConfig, bytes: &[u8]) -> Option<(usize, BodyLength)> {
    let mut codec = Codec::new(config.clone());
    let mut buffer = BytesMut::from(bytes);
    let Message::Item(request) = codec.decode(&mut buffer).ok()?? else {
        panic!("a body before a head");
    };
    let has_body = codec.message_type() != MessageType::None;
    let body = BodyLength::of(&request, has_body);
    if matches!(codec.message_type(), MessageType::Stream) {
        assert_eq!(body, BodyLength::Unbounded);
        return Some((bytes.len(), body));
    }
    let is_end = |message| matches!(message, Message::Chunk(None));
    while has_body && !is_end(codec.decode(&mut buffer).ok()??) {}
    Some((bytes.len() - buffer.len(), body))
}

/// The bytes of the first request as `RequestExtent` reads it, `step` bytes at a time.
fn here(bytes: &[u8], body: BodyLength, step: usize) -> usize {
    let mut extent = RequestExtent::new();
    let mut taken = 0;
    for piece in bytes.chunks(step) {
        let mut offered = piece;
        loop {
            let count = extent.take(offered);
            taken += count;
            offered = &offered[count..];
            if extent.part != RequestPart::AfterHead {
                break;
            }
            extent.begin(body);
        }
        if !offered.is_empty() {
            break;
        }
    }
    taken
}

#[actix_web::test]
async fn requests_end_where_actix_ends_them() {
    let config = ServiceConfig::default();
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    for (request, why) in [
        (format!("{get}\r\n"), "no body"),
        (format!("\r\n\n\r\n{get}\r\n"), "empty lines before"),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), "bare line feeds"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), "mixed"),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), "no header"),
        (format!("{get}X:\r\n\r\n"), "an empty header"),
        (format!("{get}Content-Length: 0\r\n\r\n"), "no bytes"),
        (format!("{post}Content-Length: 5\r\n\r\nGET /"), "five"),
        (format!("{post}Content-Length:  05 \r\n\r\nGET /"), "spaces"),
        (format!("{post}{chunked}0\r\n\r\n"), "no chunk"),
        (
            format!("{post}{chunked}1\r\nx\r\n00a ;b=\"c\"\r\n0123456789\r\n0;d\r\n\r\n"),
            "chunks",
        ),
        (
            format!("{post}{chunked}0\r\nTrailer: x\r\nY: z\r\n\r\n"),
            "trailers",
        ),
        (
            format!("{post}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{{}}"),
            "expects 100 Continue",
        ),
        (
            format!("{get}Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
            "an upgrade that is not supported",
        ),
        (
            format!("{post}Upgrade: websocket\r\n{chunked}1\r\nx\r\n0\r\n\r\n"),
            "chunks take precedence",
        ),
    ] {
        let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
        let bytes = format!("{request}{next}");
        let (end, body) = by_actix(&config, bytes.as_bytes()).expect(why);
        assert_eq!(end, request.len(), "{why}");
        for step in 1..=bytes.len() {
            let here = here(bytes.as_bytes(), body, step);
            assert_eq!(here, request.len(), "{why}, {step} at a time");
        }
    }
}

#[actix_web::test]
async fn a_request_without_an_end_is_the_last_one() {
    let config = ServiceConfig::default();
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    ] {
        let bytes = format!("{head}GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (taken, body) = by_actix(&config, bytes.as_bytes()).unwrap();
        assert_eq!((taken, body), (bytes.len(), BodyLength::Unbounded));
        assert_eq!(here(bytes.as_bytes(), body, 7), bytes.len());
    }
}

#[actix_web::test]
async fn no_byte_after_a_malformed_chunk_is_taken() {
    let config = ServiceConfig::default();
    for body in [
        "x",
        "1x\r\n",
        "1\n",
        "1\r\nxy",
        "0\r\n\r\r",
        "fffffffffffffffff\r\n",
    ] {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let bytes = [head, body.as_bytes(), b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(by_actix(&config, &bytes), None, "{body:?}");
        let taken = here(&bytes, BodyLength::Chunked, bytes.len());
        assert!(taken <= head.len() + body.len(), "{body:?}");
    }
}

const PIECES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /x HTTP/1.1\r\n",
    "HEAD / HTTP/1.0\n",
    "CONNECT a:1 HTTP/1.1\r\n",
    "Host: a\r\n",
    "Host: a\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Content-Length:\t12 \r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding: Chunked\n",
    "Upgrade: websocket\r\n",
    "Upgrade: h2c\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    " folded\r\n",
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "0\r\n\r\n",
    "3\r\nabc\r\n",
    "A;x=y\r\n0123456789\r\n",
    "3 \r\n\r\n\r\r\n",
    "0\r\nX: y\r\n\r\n",
    "abc",
    "\t",
    "\0",
    "x:",
    "5",
];

/// Parts of requests in random order, split at random: where Actix finds a request, `RequestExtent` finds the same end.
#[actix_web::test]
async fn random_bytes_end_where_actix_ends_them() {
    let config = ServiceConfig::default();
    let mut random = StdRng::seed_from_u64(15);
    let mut found = 0;
    for _ in 0..100_000 {
        let mut bytes = Vec::new();
        if random.random_ratio(3, 4) {
            bytes.extend_from_slice(b"POST / HTTP/1.1\r\nHost: a\r\n");
        }
        for _ in 0..random.random_range(2..12) {
            bytes.extend_from_slice(PIECES.choose(&mut random).unwrap().as_bytes());
        }
        if random.random_ratio(1, 4) {
            let index = random.random_range(0..bytes.len());
            bytes[index] = random.random();
        }
        let Some((end, body)) = by_actix(&config, &bytes) else {
            continue;
        };
        found += 1;
        let step = random.random_range(1..=bytes.len());
        let here = here(&bytes, body, step);
        assert_eq!(here, end, "{:?} {body:?}", String::from_utf8_lossy(&bytes));
    }
    assert!(found > 3_000, "only {found} requests");
}
