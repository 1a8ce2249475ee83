//! Clients that stay within all windows and limits on count, but send many small frames or hold many slots.

use tokio::net::TcpStream;

use crate::limits::guarded::{BOUND, Guarded};
use crate::limits::memory::ask;
use crate::support::wait::until;

const ITEM: &[u8] = br#"{"name":"a","email":"a@example.org"}"#;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A frame of the first stream.
fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[high, middle, low, kind, flags, 0, 0, 0, 1], content].concat()
}

/// The head of `POST /data` with JSON, which a body follows.
fn post() -> Vec<u8> {
    let head = b"\x83\x86\x44\x05/data\x41\x01a\x5f\x10application/json";
    frame(1, 4, head)
}

#[tokio::test]
async fn a_body_in_empty_or_tiny_frames_ends_its_connection() {
    let guarded = Guarded::start(&[]);
    let item: Vec<u8> = ITEM.chunks(1).flat_map(|byte| frame(0, 0, byte)).collect();
    for (padding, why) in [(&b""[..], "empty"), (b" ", "tiny")] {
        let few = [PREFACE, &post(), &frame(0, 0, padding).repeat(500), &item];
        let honest = [few.concat(), frame(0, 1, b"")].concat();
        let mut raw = guarded.connect().await;
        raw.send(honest).await;
        raw.read_until("\"email\":\"a@example.org\"").await;
        raw.hang_up().await;
        raw.end().await;

        let mut raw = guarded.connect().await;
        // The protocol library allocated about 400 bytes for each.
        let many = frame(0, 0, padding).repeat(50_000);
        raw.send([PREFACE, &post(), &many].concat()).await;
        let ended = raw.end().await;
        assert!(!ended.text.contains("problem+json"), "{why}: {ended:?}");
    }
    guarded.wait_for(&["malformed"], 2).await;
    guarded.wait_for_quiet().await;
    assert_eq!(guarded.ended("malformed").await, 2);
    assert_eq!(guarded.answered().await["201"], 2);
}

#[tokio::test]
async fn one_client_cannot_use_up_the_live_pages() {
    let guarded = Guarded::start(&[]);
    let authority = guarded.ops_authority();
    let open = async |from: u8, count: usize| {
        let mut pages: Vec<TcpStream> = Vec::new();
        for _ in 0..count {
            match ask(authority, from, "/dashboard/stream").await {
                (200, page) => pages.push(page),
                (status, _) => assert_eq!(status, 503),
            }
        }
        pages
    };
    let greedy = open(1, 210).await;
    assert_eq!(greedy.len(), 100);
    let other = open(2, 60).await;
    assert_eq!(other.len(), 50);
    drop(greedy);
    until("the slots to be free", BOUND, || async {
        match open(3, 80).await.len() {
            75 => Ok(()),
            few => Err(format!("{few} pages were opened")),
        }
    })
    .await;
}
