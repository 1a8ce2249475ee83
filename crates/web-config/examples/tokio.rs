//! A server of one page behind a web configuration file, with Tokio and no HTTP framework.
//!
//! ```sh
//! cargo run -p exporter-web-config --example tokio -- web.yml
//! curl --user alice:secret http://127.0.0.1:9100/metrics
//! ```
//!
//! It reads the file again each second. It understands as much of HTTP/1 as the example needs: one request for each
//! connection, without a body. So the file should set `http2: false`.

#![allow(clippy::print_stderr, reason = "the example reports to its terminal")]

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use exporter_web_config::{AccessRules, Reloading, RequestGate, ServerStream, WebConfigFile};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const PAGE: &str = "# TYPE up gauge\nup 1\n";

/// The longest time for a handshake and a request head.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest request head.
const MAX_HEAD: usize = 8 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: tokio FILE")?;
    let web = Arc::new(Reloading::open(WebConfigFile::new(path))?);
    let gate = RequestGate::new("metrics");
    tokio::spawn(keep_current(Arc::clone(&web)));

    let listener = TcpListener::bind("127.0.0.1:9100").await?;
    eprintln!("listening on {}", listener.local_addr()?);
    loop {
        let (socket, client) = listener.accept().await?;
        let (rules, gate) = (web.current(), gate.clone());
        tokio::spawn(async move {
            let served = timeout(PATIENCE, serve(socket, client.ip(), &rules, &gate)).await;
            if let Err(error) = served.unwrap_or_else(|elapsed| Err(elapsed.into())) {
                eprintln!("{client}: {error}");
            }
        });
    }
}

async fn keep_current(web: Arc<Reloading<WebConfigFile>>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let again = Arc::clone(&web);
        match tokio::task::spawn_blocking(move || again.reload(false)).await {
            Ok(Ok(false)) => (),
            Ok(Ok(true)) => eprintln!("the web configuration was reloaded"),
            Ok(Err(error)) => eprintln!("the old web configuration stays in use: {error}"),
            Err(error) => eprintln!("the web configuration was not reloaded: {error}"),
        }
    }
}

async fn serve(
    socket: TcpStream,
    client: IpAddr,
    rules: &AccessRules,
    gate: &RequestGate,
) -> io::Result<()> {
    let mut stream = ServerStream::accept(socket, rules.tls().cloned()).await?;
    let head = read_head(&mut stream).await?;
    let authorization = authorization(&head)?;
    let values = authorization.iter().map(Vec::as_slice);
    let (status, header, body) = match gate.check(rules, values, Some(client)).await {
        Ok(()) => (200, ("content-type", "text/plain".to_owned()), PAGE),
        Err(denial) => (denial.status(), denial.header(), ""),
    };
    let response = response(status, &header, body, rules);
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

async fn read_head(stream: &mut ServerStream<TcpStream>) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head)
}

fn authorization(head: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).map_err(io::Error::other)?;
    let headers = request.headers.iter();
    Ok(headers
        .filter(|header| header.name.eq_ignore_ascii_case("authorization"))
        .map(|header| header.value.to_vec())
        .collect())
}

fn response(status: u16, header: &(&str, String), body: &str, rules: &AccessRules) -> String {
    let mut response = format!("HTTP/1.1 {status} \r\nconnection: close\r\n");
    let length = body.len();
    // Writing to a `String` does not fail.
    let _ = write!(response, "content-length: {length}\r\n");
    let _ = write!(response, "{}: {}\r\n", header.0, header.1);
    for header in rules.headers() {
        let _ = write!(response, "{}: {}\r\n", header.name(), header.value());
    }
    response + "\r\n" + body
}
