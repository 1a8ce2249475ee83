//! Every example runs and answers, and its scrape contains the requests that the test sent.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::example::example;
use crate::support::exposition::Exposition;
use crate::support::{tools, wait};

/// A running example, stopped when dropped.
struct Example {
    child: Child,
    lines: BufReader<ChildStdout>,
    url: String,
    client: Client,
}

impl Example {
    /// Starts an example on free ports.
    fn start(name: &str, listeners: usize) -> Self {
        Self::start_program(&example(name), listeners)
    }

    fn start_program(program: &Path, listeners: usize) -> Self {
        let mut child = Command::new(program)
            .args(vec!["127.0.0.1:0"; listeners])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30));
        let mut example = Self {
            child,
            lines,
            url: String::new(),
            client: client.build().expect("a client"),
        };
        example.url = example.next_address();
        example
    }

    fn next_address(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        let (_, address) = line.split_once("listening on ").expect("an address");
        address.trim().to_owned()
    }

    async fn post(&self, path: &str) {
        let request = self.client.post(format!("{}{path}", self.url));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.expect("the whole body");
    }

    async fn get(&self, url: &str) -> Response {
        self.client.get(url).send().await.expect("an answer")
    }

    async fn scrape(&self, url: &str) -> Exposition {
        let answer = self.get(&format!("{url}/metrics")).await;
        assert_eq!(answer.status(), 200);
        let text = answer.text().await.expect("the whole body");
        Exposition::parse(&text).expect("a well-formed exposition")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // Both fail only if the example has ended.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn adopt_tells_of_requests_queries_pool_and_orders() {
    let example = Example::start("adopt", 1);
    for _ in 0..3 {
        example.post("/orders").await;
    }
    let scrape = example.scrape(&example.url).await;
    let orders = [
        ("method", "POST"),
        ("endpoint", "/orders"),
        ("http_status", "200"),
    ];
    assert_eq!(scrape.value("http_requests_total", &orders), 3.0);
    assert_eq!(
        scrape.value("db_queries_total", &[("operation", "insert")]),
        3.0
    );
    assert_eq!(
        scrape.value("db_pool_max_connections", &[("pool", "default")]),
        1.0
    );
    assert_eq!(scrape.value("shop_orders_total", &[]), 3.0);
    let ready = example.get(&format!("{}/readyz", example.url)).await;
    assert_eq!(ready.status(), 200, "the pool answers a ping");
    let after = example.scrape(&example.url).await;
    assert_eq!(
        after.sum_rise(&scrape, "db_queries_total", &[]),
        0.0,
        "the ping is no query"
    );
}

#[tokio::test]
async fn custom_metrics_stand_beside_ours_with_the_labels_of_the_service() {
    let example = Example::start("custom_metrics", 1);
    example.post("/letters/12").await;
    example.post("/letters/80").await;
    let scrape = example.scrape(&example.url).await;
    let region = ("region", "eu");
    assert_eq!(scrape.value("post_letters", &[region]), 3.0);
    let parcels = [region, ("kind", "parcel")];
    assert_eq!(scrape.value("post_size_centimetres_count", &parcels), 1.0);
    assert_eq!(scrape.value("post_sorted_total", &parcels), 1.0);
    assert_eq!(scrape.value("post_box_fill_ratio", &[region]), 0.5);
    assert_eq!(scrape.value("post_stamps_total", &[region]), 1.0);
    assert_eq!(scrape.sum("http_requests_total", &[region]), 2.0);
}

#[tokio::test]
async fn two_listeners_keep_the_operators_endpoints_off_the_public_one() {
    let mut example = Example::start("two_listeners", 2);
    let operations = example.next_address();
    let hello = example.get(&format!("{}/hello/Ada", example.url)).await;
    assert_eq!(hello.status(), 200);
    for path in ["/metrics", "/livez", "/ops/statements", "/dashboard"] {
        let public = example.get(&format!("{}{path}", example.url)).await;
        assert_eq!(public.status(), 404, "{path}");
        let operator = example.get(&format!("{operations}{path}")).await;
        assert_eq!(operator.status(), 200, "{path}");
    }
    let scrape = example.scrape(&operations).await;
    let hello = [
        ("method", "GET"),
        ("endpoint", "/hello/{name}"),
        ("http_status", "200"),
    ];
    assert_eq!(scrape.value("http_requests_total", &hello), 1.0);
}

#[tokio::test]
async fn a_program_without_debug_lines_or_symbols_says_what_is_missing() {
    let test = "a_program_without_debug_lines_or_symbols_says_what_is_missing";
    let Some(strip) = tools::strip(test) else {
        return;
    };
    let directory = TempDir::new().expect("a directory");
    let stripped = directory.path().join("why");
    let function = Value::from("why::list_orders");
    for (removed, function, reason) in [
        ("-g", function, "built without debug lines"),
        ("-s", Value::Null, "built without symbols"),
    ] {
        let done = Command::new(&strip)
            .arg(removed)
            .arg("-o")
            .arg(&stripped)
            .arg(example("why"))
            .status();
        assert!(done.expect("it runs").success(), "{removed}");
        let mut example = Example::start_program(&stripped, 2);
        let operations = example.next_address();
        let listed = example.get(&format!("{}/orders", example.url)).await;
        listed.bytes().await.expect("the whole body");
        let json = async |path: &str| -> Value {
            let answer = example.get(&format!("{operations}{path}")).await;
            answer.json().await.expect("JSON")
        };
        let statements = json("/ops/statements?sort=calls&limit=1").await;
        let path = format!("/ops/statements/{}", statements["statements"][0]["id"]);
        let location = wait::until("a location", Duration::from_secs(60), async || {
            let location = json(&path).await["code_locations"][0].clone();
            let note = location["note"].as_str().unwrap_or_default();
            if note.contains(reason) {
                Ok(location)
            } else {
                Err(location.to_string())
            }
        });
        let location = location.await;
        assert_eq!(location["function"], function, "{location}");
        assert_eq!(location["line"], Value::Null, "{location}");
    }
}

#[tokio::test]
async fn why_has_a_fault_in_each_endpoint() {
    let mut example = Example::start("why", 2);
    let operations = example.next_address();
    for path in [
        "/customers/7",
        "/report",
        "/orders",
        "/search/99",
        "/download",
    ] {
        let answer = example.get(&format!("{}{path}", example.url)).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.expect("the whole body");
    }
    example.post("/import").await;
    let scrape = example.scrape(&operations).await;
    for (family, method, endpoint) in [
        ("http_loop_stalls_total", None, "/report"),
        ("http_n_plus_one_suspected_total", Some("GET"), "/orders"),
    ] {
        let method = method.map(|method| ("method", method));
        let labels: Vec<_> = method.into_iter().chain([("endpoint", endpoint)]).collect();
        assert_eq!(scrape.value(family, &labels), 1.0, "{endpoint}");
        assert_eq!(scrape.sum(family, &[]), 1.0, "{family}");
    }
    let pool = [("pool", "default")];
    assert_eq!(
        scrape.value("db_pool_checked_out_connections", &pool),
        1.0,
        "the leaked one"
    );
}

#[tokio::test]
async fn attribution_has_each_query_in_its_request_or_job() {
    let example = Example::start("attribution", 1);
    for path in ["/block", "/tasks", "/thread", "/job"] {
        example.post(path).await;
    }
    let runs = [("job_name", "export"), ("outcome", "ok")];
    let scrape = wait::until("the end of the job", Duration::from_secs(20), async || {
        let scrape = example.scrape(&example.url).await;
        let ended = scrape.get("job_runs_total", &runs) == Some(1.0);
        ended.then_some(scrape).ok_or("it runs".to_owned())
    })
    .await;
    for (path, queries) in [
        ("/block", 1.0),
        ("/tasks", 2.0),
        ("/thread", 1.0),
        ("/job", 0.0),
    ] {
        let route = [("method", "POST"), ("endpoint", path)];
        assert_eq!(
            scrape.value("http_request_db_queries_sum", &route),
            queries,
            "{path}"
        );
    }
    for name in ["export", "migrations"] {
        assert_eq!(
            scrape.value("job_db_queries_sum", &[("job_name", name)]),
            1.0,
            "{name}"
        );
    }
    assert_eq!(scrape.sum("db_queries_unattributed_total", &[]), 0.0);
    assert_eq!(scrape.sum("db_queries_total", &[]), 6.0);
}

#[tokio::test]
async fn streaming_counts_a_stream_when_it_starts_and_times_it_when_it_ends() {
    let example = Example::start("streaming", 1);
    let endpoint = [("endpoint", "/seconds")];
    let mut stream = example.get(&format!("{}/seconds", example.url)).await;
    let first = stream.chunk().await.expect("a chunk");
    assert_eq!(first.as_deref(), Some(&b"data: 0\n\n"[..]));
    let scrape = example.scrape(&example.url).await;
    assert_eq!(scrape.value("http_streams_active", &endpoint), 1.0);
    assert_eq!(scrape.sum("http_requests_total", &endpoint), 1.0);
    assert_eq!(
        scrape.sum("http_request_duration_seconds_count", &endpoint),
        0.0
    );
    drop(stream);
    wait::until(
        "the end of the stream",
        Duration::from_secs(20),
        async || {
            let scrape = example.scrape(&example.url).await;
            let ended = scrape.sum("http_stream_duration_seconds_count", &endpoint);
            (ended == 1.0).then_some(()).ok_or("it lasts".to_owned())
        },
    )
    .await;
}

#[tokio::test]
async fn existing_keeps_the_ops_endpoints_out_of_what_the_application_had() {
    let example = Example::start("existing", 1);
    let url = |path: &str| format!("{}{path}", example.url);
    let send = async |method: reqwest::Method, path: &str, headers: &[(&str, &str)]| {
        let mut request = example.client.request(method, url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("an answer").status().as_u16()
    };
    let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
    let known = ("authorization", "Bearer of something");
    let stranger = ("origin", "https://elsewhere.example");
    for path in ["/metrics", "/livez", "/readyz", "/health", "/dashboard"] {
        assert_eq!(send(get.clone(), path, &[]).await, 200, "{path}");
        assert_eq!(send(get.clone(), path, &[stranger]).await, 200, "{path}");
    }
    assert_eq!(send(get.clone(), "/orders", &[]).await, 401);
    assert_eq!(send(get.clone(), "/orders", &[known, stranger]).await, 400);
    assert_eq!(send(get.clone(), "/orders", &[known]).await, 200);
    assert_eq!(send(get.clone(), "/adopt.rs", &[known]).await, 200);
    assert_eq!(send(get.clone(), "/none.rs", &[known]).await, 404);
    assert_eq!(send(post.clone(), "/orders/7", &[known]).await, 200);
    assert_eq!(send(post, "/orders/7", &[known]).await, 409, "no 503");

    let scrape = example.scrape(&example.url).await;
    let requests = |method: &str, endpoint: &str, status: &str| {
        let labels = [
            ("method", method),
            ("endpoint", endpoint),
            ("http_status", status),
        ];
        scrape.value("http_requests_total", &labels)
    };
    for (status, count) in [("200", 1.0), ("400", 1.0), ("401", 1.0)] {
        assert_eq!(requests("GET", "/orders", status), count, "{status}");
    }
    assert_eq!(requests("POST", "/orders/{id}", "409"), 1.0);
    let reads = [("method", "GET"), ("endpoint", "/orders")];
    assert_eq!(scrape.value("http_request_db_queries_sum", &reads), 1.0);
    let unattributed = scrape.sum("db_queries_unattributed_total", &[("operation", "select")]);
    assert_eq!(unattributed, 0.0);
}

#[tokio::test]
async fn three_pools_in_three_shapes_are_told_apart() {
    let example = Example::start("pools", 1);
    for (path, times) in [("/orders", 1), ("/audit", 2), ("/books", 3)] {
        for _ in 0..times {
            let answer = example.get(&format!("{}{path}", example.url)).await;
            assert_eq!(answer.status(), 200, "{path}");
        }
    }
    let scrape = example.scrape(&example.url).await;
    for (pool, count) in [("orders", 1.0), ("audit", 2.0), ("books", 3.0)] {
        let selects = [("operation", "select"), ("pool", pool)];
        assert_eq!(scrape.value("db_queries_total", &selects), count, "{pool}");
        let held = scrape.value("db_pool_hold_seconds_count", &[("pool", pool)]);
        assert_eq!(held, count, "{pool}");
    }
    assert_eq!(scrape.sum("db_queries_total", &[]), 6.0);
    assert_eq!(scrape.sum("db_queries_unattributed_total", &[]), 0.0);
}

/// Checks that each line of code in a section of docs/ADOPTING.md is in the example. Returns the number of lines.
fn compare_with_example(heading: &str, example: &str) -> usize {
    let document = include_str!("../docs/ADOPTING.md");
    let section = document
        .split("\n### ")
        .find(|section| section.starts_with(heading))
        .expect("the section");
    let example: Vec<&str> = example.lines().map(str::trim).collect();
    let blocks = section.split("```").skip(1).step_by(2);
    let lines = blocks
        .flat_map(|block| block.lines().skip(1))
        .map(str::trim)
        .filter(|line| !line.is_empty() && *line != "…" && !line.starts_with("// before: "));
    let mut count = 0;
    for line in lines {
        assert!(example.contains(&line), "not in the example: {line}");
        count += 1;
    }
    count
}

#[test]
fn the_lines_for_an_existing_application_are_those_of_the_example() {
    let example = include_str!("../examples/existing.rs");
    let count = compare_with_example("When your app already has", example);
    assert!(count > 20, "{count} lines");
}

#[test]
fn the_shapes_of_pools_are_those_of_the_example() {
    let example = include_str!("../examples/pools.rs");
    let count = compare_with_example("Pools that are built elsewhere", example);
    assert!(count > 10, "{count} lines");
}
