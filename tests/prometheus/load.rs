//! Load on a server: normal requests, and everything that can fail.

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

/// Settings with which [`Trouble`] has an effect: few connections, a short timeout, few series, and a threshold that suspects
/// every statement. The log level hides the failed requests.
pub(crate) const FRAIL: &[&str] = &[
    "--pool-size=2",
    "--pool-timeout=200ms",
    "--max-series=60",
    "--n-plus-one=1",
    "--log=off",
];

/// Creates, reads, lists, replaces and deletes in a loop, with one rejected request in each round.
pub(crate) async fn keep_busy(url: String) {
    let client = client(Duration::from_secs(30));
    // Ends with an error when the test stops the server.
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
        // Shorter than the five seconds of the server, or a request may use a connection that is being closed.
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

/// Creates items in a loop, a few each second.
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

/// Causes every kind of failure of a [`FRAIL`] server until it is dropped: a locked database, a missing table, clients that
/// leave, too many label sets. It also keeps a stream open.
#[derive(Debug)]
pub(crate) struct Trouble {
    clients: JoinSet<()>,
    intruder: Intruder,
}

impl Trouble {
    /// Starts after one successful round, so that the tested series exist before the limit of series is reached.
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

    /// Returns whether all of it still runs.
    pub(crate) fn lasts(&mut self) -> bool {
        self.clients.try_join_next().is_none() && self.intruder.lasts()
    }
}

/// Sends slow requests and leaves before the answer.
async fn leave_early(url: Arc<str>) {
    let client = client(Duration::from_millis(50));
    loop {
        let sent = client.post(format!("{url}/data")).json(&item()).send();
        let _answer = sent.await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sends each method to each path, once a request has failed.
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

/// Keeps a stream open.
async fn listen(url: Arc<str>) {
    let client = client(Duration::from_secs(600));
    let mut stream = client
        .get(format!("{url}/dashboard/stream"))
        .send()
        .await
        .expect("a stream");
    while let Ok(Some(_)) = stream.chunk().await {}
}
