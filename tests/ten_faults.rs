//! Ten known faults of a shop's database, each to be named by the ops endpoints with the right line, plan or blocker, and
//! their healthy twins, of which nothing may be said. The shop is the example `ten_faults`, on SQLite and on PostgreSQL.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::{Client, Method};
use serde_json::Value;
use tokio::time::sleep;

use crate::support::{
    example::example, exposition::Exposition, postgres::Cluster, server::Data as _, tools,
};

/// Where the faults are.
const FILE: &str = "examples/ten_faults/faulty.rs";
const SOURCE: &str = include_str!("../examples/ten_faults/faulty.rs");

/// How long a finding may take on a busy machine.
const BOUND: Duration = Duration::from_secs(90);

/// The requests of the twins: method, and path below `/faulty` or `/healthy`.
const TWINS: [(Method, &str); 10] = [
    (Method::GET, "missing-index/7"),
    (Method::GET, "loop"),
    (Method::GET, "template"),
    (Method::GET, "identical"),
    (Method::PUT, "convoy"),
    (Method::GET, "idle"),
    (Method::GET, "sort"),
    (Method::GET, "flipped/7"),
    (Method::POST, "leak"),
    (Method::GET, "function/7"),
];

/// The running shop, stopped when dropped.
struct Shop {
    child: Child,
    url: String,
    ops: String,
    client: Client,
}

impl Shop {
    fn start(database: &str) -> Self {
        let mut child = Command::new(example("ten_faults"))
            .args([database, "127.0.0.1:0", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut address = || {
            let line = lines.next().expect("a line").expect("UTF-8");
            let (_, address) = line.split_once("listening on ").expect("an address");
            address.to_owned()
        };
        let client = Client::builder().no_proxy().timeout(BOUND);
        Self {
            url: address(),
            ops: address(),
            child,
            client: client.build().expect("a client"),
        }
    }

    async fn send(&self, method: Method, path: &str) {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.expect("the whole body");
    }

    async fn get(&self, path: &str) {
        self.send(Method::GET, path).await;
    }

    async fn text(&self, path: &str) -> String {
        let request = self.client.get(format!("{}{path}", self.ops));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.expect("the whole body")
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).expect("JSON")
    }

    /// The only pool, with its connections and the locks that they wait for.
    async fn pool(&self) -> Value {
        self.json("/ops/pool").await["pools"][0].take()
    }

    /// The statement that an endpoint ran, with this text in its shape.
    async fn statement(&self, endpoint: &str, text: &str) -> Value {
        let (method, pattern) = endpoint.split_once(' ').expect("a method");
        let pattern = pattern.replace('{', "%7B").replace('}', "%7D");
        let query = format!("method={method}&endpoint={pattern}&text={text}&limit=1");
        let listed = self.json(&format!("/ops/statements?{query}")).await;
        match &listed["statements"][0]["id"] {
            Value::Null => listed,
            id => self.json(&format!("/ops/statements/{id}")).await,
        }
    }

    async fn scrape(&self) -> Exposition {
        let text = self.text("/metrics").await;
        Exposition::parse(&text).expect("a well-formed exposition")
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Both fail only if the shop has ended.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The line of a fault in [`SOURCE`].
fn line_of(fault: &str) -> u64 {
    let marked = |mark: &str| {
        let mut lines = SOURCE.lines();
        lines.position(|line| line.trim_end().ends_with(&format!("// {mark}: {fault}")))
    };
    let line = marked("fault").map(|at| at + 1);
    let line = line.or_else(|| marked("fault below").map(|at| at + 2));
    line.unwrap_or_else(|| panic!("no line is marked as {fault}")) as u64
}

/// Looks until something is found.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, Value>) -> T {
    let deadline = Instant::now() + BOUND;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "no {what} in {seen:#}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The first of a list that is wanted, or the list.
fn one_of(list: &Value, is_wanted: impl Fn(&Value) -> bool) -> Result<Value, Value> {
    let mut entries = list.as_array().expect("a list").iter();
    let found = entries.find(|entry| is_wanted(entry));
    found.cloned().ok_or_else(|| list.clone())
}

/// Whether a connection was taken by the line of a fault.
fn is_taken_at(connection: &Value, fault: &str) -> bool {
    let place = format!("{FILE}:{}:", line_of(fault));
    let taken_at = connection["taken_at"].as_str();
    taken_at.is_some_and(|taken_at| taken_at.starts_with(&place))
}

/// The requests that wait for each other are named with the one that they wait for.
async fn assert_a_lock_convoy_is_named(shop: &Shop, is_sqlite: bool) {
    let convoy = join_all((0..6).map(|_| shop.send(Method::PUT, "/faulty/convoy")));
    let named = until("lock convoy", async || {
        let pool = shop.pool().await;
        one_of(&pool["locks"]["waits"], |wait| {
            let sentence = wait["sentence"].as_str().unwrap();
            let holder = if is_sqlite { "" } else { "PUT /faulty/convoy" };
            sentence.starts_with("PUT /faulty/convoy waits for") && sentence.contains(holder)
        })
    });
    tokio::join!(convoy, named);
}

/// The transaction that is idle while another service is asked is named with the code that took its connection.
async fn assert_an_idle_transaction_is_named(shop: &Shop) {
    let request = shop.get("/faulty/idle");
    let named = until("idle transaction", async || {
        let pool = shop.pool().await;
        one_of(&pool["connections"], |connection| {
            connection["doing"] == "idle_in_transaction"
                && connection["doing_seconds"].as_f64().unwrap() > 0.5
                && connection["endpoint"] == "/faulty/idle"
                && is_taken_at(connection, "idle transaction")
        })
    });
    tokio::join!(request, named);
}

async fn assert_a_leak_is_named(shop: &Shop) {
    shop.send(Method::POST, "/faulty/leak").await;
    until("leak", async || {
        let pool = shop.pool().await;
        one_of(&pool["connections"], |connection| {
            connection["is_leak"] == true
                && connection["endpoint"] == "/faulty/leak"
                && is_taken_at(connection, "leak")
        })
    })
    .await;
}

/// The plan of a statement is flagged; `part` is in the sentence or in the advice.
async fn assert_a_plan_is_flagged(shop: &Shop, endpoint: &str, text: &str, kind: &str, part: &str) {
    until(kind, async || {
        let statement = shop.statement(endpoint, text).await;
        one_of(&flags(&statement), |flag| {
            flag["kind"] == kind && flag.to_string().contains(part)
        })
    })
    .await;
}

/// The flags of the plan of a statement.
fn flags(statement: &Value) -> Value {
    let flags = &statement["plan"]["current"]["flags"];
    if flags.is_null() {
        Value::Array(Vec::new())
    } else {
        flags.clone()
    }
}

/// After a load of rows and new statistics, the database has another plan. The plan before is kept.
async fn assert_a_flipped_plan_is_named(shop: &Shop) {
    let endpoint = "GET /faulty/flipped/{shop}";
    shop.get("/faulty/flipped/1").await;
    let before = until("plan", async || {
        let statement = shop.statement(endpoint, "events").await;
        let fingerprint = statement["plan"]["current"]["fingerprint"].as_str();
        fingerprint
            .map(str::to_owned)
            .ok_or_else(|| statement["plan"].clone())
    })
    .await;
    shop.send(Method::POST, "/load").await;
    until("change of the plan", async || {
        shop.get("/faulty/flipped/1").await;
        let statement = shop.statement(endpoint, "events").await;
        one_of(&statement["plan"]["changes"], |change| {
            change["before"]["fingerprint"] == *before && change["p95_before_seconds"].is_number()
        })
    })
    .await;
    let changes = shop
        .scrape()
        .await
        .value("db_statement_plan_changes_total", &[]);
    assert_eq!(changes, 1.0, "only this plan has changed");
}

/// The line of code that ran a statement for an endpoint is named, with what it is suspected of.
async fn assert_a_line_is_named(
    shop: &Shop,
    endpoint: &str,
    text: &str,
    suspicion: &str,
    fault: &str,
) {
    let (method, pattern) = endpoint.split_once(' ').unwrap();
    until(fault, async || {
        let statement = shop.statement(endpoint, text).await;
        one_of(&statement["code_locations"], |location| {
            (location["method"] == method && location["endpoint"] == pattern)
                && (location["file"] == FILE && location["line"] == line_of(fault))
                && one_of(&location["suspicions"], |found| {
                    found["suspicion"] == suspicion
                })
                .is_ok()
        })
    })
    .await;
}

/// Nothing is said of the twins: no line of code, no flag of a plan that is known, and no change of it.
async fn assert_nothing_is_said_of_the_twins(shop: &Shop) {
    let statements = shop.json("/ops/statements?limit=1000").await;
    let mut plans = 0;
    for listed in statements["statements"].as_array().unwrap() {
        let endpoints = listed["endpoints"].as_array().unwrap();
        let is_healthy = |endpoint: &Value| endpoint.as_str().unwrap().contains(" /healthy/");
        let Some(id) = listed["id"]
            .as_u64()
            .filter(|_| endpoints.iter().any(is_healthy))
        else {
            continue;
        };
        let statement = until("plan of a twin", async || {
            let statement = shop.json(&format!("/ops/statements/{id}")).await;
            let plan = &statement["plan"];
            // A text with literals is not explained.
            let is_known = plan["current"].is_object()
                || listed["statement"].as_str().unwrap().contains("abs(");
            if is_known {
                Ok(statement)
            } else {
                Err(plan.clone())
            }
        })
        .await;
        plans += usize::from(statement["plan"]["current"].is_object());
        assert_eq!(flags(&statement), Value::Array(Vec::new()), "{statement:#}");
        assert_eq!(
            statement["plan"]["changes"].as_array().map_or(0, Vec::len),
            0,
            "{statement:#}"
        );
        let said = one_of(&statement["code_locations"], |location| {
            location["endpoint"]
                .as_str()
                .is_some_and(|endpoint| endpoint.starts_with("/healthy/"))
        });
        assert!(said.is_err(), "{said:#?}");
    }
    assert!(plans >= 8, "{plans} plans of the twins are known");
}

/// The healthy twins run at once, and while they do, none of them is named.
async fn assert_the_twins_block_nobody(shop: &Shop) {
    let rounds = async {
        for _ in 0..3 {
            let twins = TWINS.map(|(method, path)| {
                let path = format!("/healthy/{path}");
                async move { shop.send(method, &path).await }
            });
            join_all(twins).await;
        }
    };
    let watched = async {
        loop {
            let pool = shop.pool().await;
            let suspicious = |connection: &Value| {
                connection["is_leak"] == true
                    || (connection["doing"] == "idle_in_transaction"
                        && connection["doing_seconds"].as_f64().unwrap() > 0.5)
            };
            if let Ok(named) = one_of(&pool["connections"], suspicious) {
                panic!("{named:#}");
            }
            if let Ok(named) = one_of(&pool["locks"]["waits"], |_| true) {
                panic!("{named:#}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = watched => unreachable!("it goes on"),
    }
}

/// Runs the twins and the faults.
async fn assert_faults_are_named(database: &str) {
    let is_sqlite = !database.starts_with("postgres:");
    let shop = Shop::start(database);
    assert_the_twins_block_nobody(&shop).await;
    for path in [
        "missing-index/note",
        "loop",
        "template",
        "identical",
        "sort",
        "function/7",
    ] {
        shop.get(&format!("/faulty/{path}")).await;
    }
    for (path, text, suspicion, fault) in [
        ("loop", "customers", "n_plus_one", "N+1 in a loop"),
        ("template", "customers", "n_plus_one", "N+1 in a template"),
        ("identical", "settings", "identical", "identical reads"),
        ("function/{code}", "price", "slow", "slow function"),
    ] {
        let endpoint = format!("GET /faulty/{path}");
        assert_a_line_is_named(&shop, &endpoint, text, suspicion, fault).await;
    }
    let missing = "GET /faulty/missing-index/{note}";
    assert_a_plan_is_flagged(&shop, missing, "note", "missing_index", "(note)").await;
    let sorted = if is_sqlite {
        "temporary_b_tree"
    } else {
        "sort_on_disk"
    };
    assert_a_plan_is_flagged(&shop, "GET /faulty/sort", "note", sorted, "").await;
    assert_a_flipped_plan_is_named(&shop).await;
    assert_a_lock_convoy_is_named(&shop, is_sqlite).await;
    assert_an_idle_transaction_is_named(&shop).await;
    assert_a_leak_is_named(&shop).await;
    assert_nothing_is_said_of_the_twins(&shop).await;
}

#[tokio::test]
async fn the_faults_are_named_and_their_twins_are_not_on_sqlite() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("shop.db");
    assert_faults_are_named(path.to_str().expect("UTF-8")).await;
}

#[tokio::test]
async fn the_faults_are_named_and_their_twins_are_not_on_postgresql() {
    let Some(programs) = tools::postgres("ten faults on PostgreSQL") else {
        return;
    };
    let cluster = Cluster::shared(&programs);
    let database = cluster.database();
    assert_faults_are_named(&database.url()).await;
}
