//! Clients that write items and record each result: acknowledged, or unknown. After a crash or fault, the database is
//! compared with their records.
//!
//! Each write uses a new name, so the name of an item identifies its last write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// The number of items of a writer, enough that it changes and deletes as often as it creates.
const ITEMS_OF_A_WRITER: usize = 30;

/// The pause after a request that failed.
const PAUSE: Duration = Duration::from_millis(2);

/// The largest page of the list.
const PAGE: usize = 1000;

/// The name of an item, or `None` if the item does not exist.
type State = Option<String>;

/// The records of all writers.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// The possible states of each item: one, unless the result of a write is unknown.
    items: BTreeMap<i64, BTreeSet<State>>,
    /// Names of items whose creation has an unknown result.
    in_doubt: BTreeSet<String>,
    /// The number of names used.
    names: u64,
    /// Writes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Writes that were answered with 503.
    pub(crate) refused: u64,
    /// Writes that were not answered.
    pub(crate) unanswered: u64,
    /// Answers that are never correct.
    pub(crate) faults: Vec<String>,
}

impl Books {
    fn new_name(&mut self) -> String {
        self.names += 1;
        format!("write {}", self.names)
    }

    /// Compares the ids and names of the items in the database with the records, and returns every difference.
    ///
    /// An item that exists after a creation with an unknown result counts as acknowledged from now on.
    pub(crate) fn differences(&mut self, found: &[(i64, String)]) -> Vec<String> {
        let mut differences = std::mem::take(&mut self.faults);
        let by_id: BTreeMap<i64, &String> = found.iter().map(|(id, name)| (*id, name)).collect();
        let names: BTreeSet<&String> = found.iter().map(|(_, name)| name).collect();
        if by_id.len() < found.len() || names.len() < found.len() {
            differences.push(format!("an id or a name is repeated: {found:?}"));
        }
        for (id, states) in &self.items {
            let state = by_id.get(id).map(|name| (*name).clone());
            if !states.contains(&state) {
                differences.push(format!("item {id} is {state:?}, not one of {states:?}"));
            }
        }
        for (id, name) in found {
            if self.items.contains_key(id) {
                continue;
            }
            if self.in_doubt.remove(name) {
                self.items.insert(*id, [Some(name.clone())].into());
            } else {
                differences.push(format!("item {id} ({name}) was written by no client"));
            }
        }
        differences
    }
}

/// Writers at work.
#[derive(Debug)]
pub(crate) struct Writers {
    stopped: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts this number of writers on the server at this URL.
    pub(crate) fn start(url: &str, books: &Arc<Mutex<Books>>, writers: u64, seed: u64) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let client = client();
        let tasks = (0..writers).map(|number| {
            let writer = Writer {
                client: client.clone(),
                url: url.to_owned(),
                books: Arc::clone(books),
                dice: StdRng::seed_from_u64(seed.wrapping_add(number)),
                own: Vec::new(),
            };
            tokio::spawn(writer.work(Arc::clone(&stopped)))
        });
        Self {
            tasks: tasks.collect(),
            stopped,
        }
    }

    /// Stops each writer after its current request.
    pub(crate) async fn stop(self) {
        self.stopped.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer ends without a panic");
        }
    }
}

fn client() -> Client {
    Client::builder()
        // Shorter than the five seconds of the server, or a request may use a connection that is being closed.
        .pool_idle_timeout(Duration::from_secs(2))
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .expect("an HTTP client")
}

/// All items of the server, through the API.
pub(crate) async fn items_of(url: &str) -> Vec<(i64, String)> {
    let client = client();
    let mut items = Vec::new();
    loop {
        let page = format!("{url}/data?limit={PAGE}&skip={}", items.len());
        let answer = client.get(page).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let page: Vec<Value> = answer.json().await.expect("a list");
        items.extend(page.iter().map(identity));
        if page.len() < PAGE {
            return items;
        }
    }
}

fn identity(item: &Value) -> (i64, String) {
    let id = item["id"].as_i64().expect("an integer id");
    let name = item["name"].as_str().expect("a name");
    (id, name.to_owned())
}

/// The result of a write.
enum Outcome {
    /// Acknowledged, with this item.
    Acknowledged(i64, String),
    /// Unknown: the write may have happened or not.
    Open,
    /// The server does not find the item.
    Missing,
}

struct Writer {
    client: Client,
    url: String,
    books: Arc<Mutex<Books>>,
    dice: StdRng,
    /// The items that it created and whose state is known.
    own: Vec<i64>,
}

impl Writer {
    async fn work(mut self, stopped: Arc<AtomicBool>) {
        while !stopped.load(Ordering::Relaxed) {
            let certain = if self.own.is_empty() || self.dice.random_ratio(2, 5) {
                self.create().await
            } else {
                let chosen = self.dice.random_range(0..self.own.len());
                let id = self.own.swap_remove(chosen);
                let deletes = self.own.len() >= ITEMS_OF_A_WRITER || self.dice.random_ratio(1, 3);
                self.change(id, deletes).await
            };
            if !certain {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Returns whether the result is known.
    async fn create(&mut self) -> bool {
        let name = self.books().new_name();
        let outcome = self.send(Method::POST, "/data", Some(&name)).await;
        let mut books = self.books();
        match outcome {
            Outcome::Acknowledged(id, answered) => {
                if answered != name || books.items.insert(id, [Some(name)].into()).is_some() {
                    books
                        .faults
                        .push(format!("{id} was given twice ({answered})"));
                }
                drop(books);
                self.own.push(id);
                true
            }
            Outcome::Open => {
                books.in_doubt.insert(name);
                false
            }
            Outcome::Missing => {
                books.faults.push("POST /data is missing".to_owned());
                false
            }
        }
    }

    async fn change(&mut self, id: i64, deletes: bool) -> bool {
        let path = format!("/data/{id}");
        let (outcome, state) = if deletes {
            (self.send(Method::DELETE, &path, None).await, None)
        } else {
            let name = self.books().new_name();
            let outcome = self.send(Method::PUT, &path, Some(&name)).await;
            (outcome, Some(name))
        };
        let mut books = self.books();
        match outcome {
            Outcome::Acknowledged(..) => {
                books.items.insert(id, [state].into());
                drop(books);
                if !deletes {
                    self.own.push(id);
                }
                true
            }
            Outcome::Open => {
                books.items.entry(id).or_default().insert(state);
                false
            }
            Outcome::Missing => {
                books.faults.push(format!("item {id} is missing"));
                false
            }
        }
    }

    async fn send(&self, method: Method, path: &str, name: Option<&str>) -> Outcome {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(name) = name {
            request = request.json(&json!({"name": name, "email": "ada@example.com"}));
        }
        let answer = async {
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((answer.status(), answer.bytes().await?))
        };
        let answer = answer.await;
        let mut books = self.books();
        match answer {
            Ok((status, body)) if status.is_success() => {
                books.acknowledged += 1;
                let item: Value = serde_json::from_slice(&body).expect("an item");
                let (id, name) = identity(&item);
                Outcome::Acknowledged(id, name)
            }
            Ok((StatusCode::NOT_FOUND, _)) => Outcome::Missing,
            Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => {
                books.refused += 1;
                Outcome::Open
            }
            Ok((status, body)) => {
                let body = String::from_utf8_lossy(&body);
                books.faults.push(format!("{status} for {path}: {body}"));
                Outcome::Open
            }
            Err(_) => {
                books.unanswered += 1;
                Outcome::Open
            }
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }
}

/// Locks the records.
pub(crate) fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}
