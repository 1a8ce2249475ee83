//! A raw connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest wait for bytes of the server.
const BOUND: Duration = Duration::from_secs(30);

pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) async fn to(authority: &str) -> Self {
        Self(TcpStream::connect(authority).await.expect("a connection"))
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.0
            .write_all(bytes.as_bytes())
            .await
            .expect("it is sent");
    }

    /// Closes the sending half.
    pub(crate) async fn hang_up(&mut self) {
        // The server may have closed the connection already.
        let _gone = self.0.shutdown().await;
    }

    /// Reads a few bytes `times` times, with a pause after each. Returns the number of bytes.
    pub(crate) async fn sip(&mut self, times: u32, bytes: usize, pause: Duration) {
        let mut sip = vec![0; bytes];
        for _ in 0..times {
            self.0.read_exact(&mut sip).await.expect("an answer");
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads the head of an answer, and returns its status.
    pub(crate) async fn head(&mut self) -> u16 {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(BOUND, self.0.read_u8()).await;
            head.push(byte.expect("in time").expect("a head"));
        }
        status_of(&head).expect("a status")
    }

    /// Reads until the server closes or resets the connection. Returns the status of the answer, if there was one.
    pub(crate) async fn end(&mut self) -> Option<u16> {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(BOUND, self.0.read_to_end(&mut bytes)).await;
        let _closed_or_reset = read.expect("the server ends the connection");
        status_of(&bytes)
    }
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let status = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(status).ok()?.parse().ok()
}
