//! Load on a server: the ordinary kind, and all that can go wrong on top of it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::prometheus::intruder::{Intruder, TORMENTED};
use crate::support::server::Server;

/// Every request belongs to a sampled trace.
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What a server must be told to be hurt by [`Trouble`]: few connections, little patience, a small budget of series, and a
/// suspicion of every statement. It would tell of each failed request.
pub(crate) const FRAIL: &[&str] = &[
    "--pool-size=2",
    "--pool-timeout=200ms",
    "--max-series=60",
    "--n-plus-one=1",
    "--log=off",
];

/// Creates, reads, lists, replaces and deletes without end, with a refused request in every round.
pub(crate) async fn keep_busy(url: String) {
    let client = client(Duration::from_secs(30));
    // The server goes away at the end of the test; nobody is interested in that error.
    while round(&client, &url).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn client(timeout: Duration) -> Client {
    let traced = HeaderMap::from_iter([(
        "traceparent".parse().expect("a name"),
        TRACEPARENT.parse().expect("a value"),
    )]);
    Client::builder()
        .default_headers(traced)
        // Sooner than the server, which closes after five: or a request may meet a closing connection.
        .pool_idle_timeout(Duration::from_secs(2))
        .timeout(timeout)
        .no_proxy()
        .build()
        .expect("an HTTP client")
}

async fn round(client: &Client, url: &str) -> Result<(), reqwest::Error> {
    let send = async |method: Method, path: &str, body: Option<&Value>| {
        let mut request = client.request(method, format!("{url}{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await?.text().await
    };
    let item = item();
    let created = send(Method::POST, "/data", Some(&item)).await?;
    let created: Value = serde_json::from_str(&created).unwrap_or_default();
    let item_path = format!("/data/{}", created["id"]);
    send(Method::GET, "/data?limit=10", None).await?;
    send(Method::GET, &item_path, None).await?;
    send(Method::PUT, &item_path, Some(&item)).await?;
    send(Method::DELETE, &item_path, None).await?;
    send(Method::GET, &item_path, None).await?;
    Ok(())
}

fn item() -> Value {
    json!({"name": "Ada", "email": "ada@example.com", "message": "hello"})
}

/// Creates items without end, at most a few a second.
pub(crate) async fn create_now_and_then(url: String) {
    let client = client(Duration::from_secs(30));
    let send = async || {
        client
            .post(format!("{url}/data"))
            .json(&item())
            .send()
            .await
    };
    while send().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// All that can go wrong with a [`FRAIL`] server, again and again, until dropped: a database that is locked or has lost its
/// table, clients that leave, more label sets than there is room for. A stream is open meanwhile.
#[derive(Debug)]
pub(crate) struct Trouble {
    clients: JoinSet<()>,
    intruder: Intruder,
}

impl Trouble {
    /// Starts it once all has gone well for once: what is asked in earnest has its series before there is no room for more.
    pub(crate) async fn start(server: &Server) -> Self {
        let url: Arc<str> = server.url("").into();
        let once = round(&client(Duration::from_secs(30)), &url).await;
        once.expect("a server that is well answers");
        let mut clients = JoinSet::new();
        for _ in 0..3 {
            clients.spawn(keep_busy(url.to_string()));
        }
        clients.spawn(leave_early(Arc::clone(&url)));
        clients.spawn(try_every_method(Arc::clone(&url)));
        clients.spawn(listen(url));
        Self {
            clients,
            intruder: Intruder::start(server, TORMENTED),
        }
    }

    /// Whether all of it is still going on.
    pub(crate) fn lasts(&mut self) -> bool {
        self.clients.try_join_next().is_none() && self.intruder.lasts()
    }
}

/// Asks for what takes long, and does not wait for it.
async fn leave_early(url: Arc<str>) {
    let client = client(Duration::from_millis(50));
    loop {
        let sent = client.post(format!("{url}/data")).json(&item()).send();
        let _answer = sent.await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Goes through all methods on all paths, from when a request has failed.
async fn try_every_method(url: Arc<str>) {
    let client = client(Duration::from_secs(30));
    let send = async |method: &str, path: &str| {
        let method: Method = method.parse().expect("a method");
        let request = client.request(method, format!("{url}{path}"));
        tokio::time::sleep(Duration::from_millis(20)).await;
        request
            .json(&item())
            .send()
            .await
            .map(|answer| answer.status())
    };
    while !matches!(send("POST", "/data").await, Ok(status) if status.is_server_error()) {}
    loop {
        for path in [
            "/", "/data", "/data/1", "/livez", "/readyz", "/health", "/metrics", "/docs",
            "/nowhere",
        ] {
            for method in ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
                let _answer = send(method, path).await;
            }
        }
    }
}

/// Holds a stream open.
async fn listen(url: Arc<str>) {
    let client = client(Duration::from_secs(600));
    let mut stream = client
        .get(format!("{url}/dashboard/stream"))
        .send()
        .await
        .expect("a stream");
    while let Ok(Some(_)) = stream.chunk().await {}
}
