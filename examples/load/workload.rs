//! The clients: they create, read, update and delete items. Each has its own seeded random numbers.
//!
//! All clients share the items, so a read may find that an item was deleted: it is answered with 404, and counted as such.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::latency::Latencies;
use crate::ledger::{Ledger, Row};

/// The route pattern of the collection.
const COLLECTION: &str = "/data";
/// The route pattern of one item.
const ITEM: &str = "/data/{item_id}";

/// The proportions of the operations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    create: u32,
    read: u32,
    update: u32,
    delete: u32,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<u32> = text
            .split(':')
            .map(|part| part.parse().ok().filter(|share| *share <= 1000))
            .collect::<Option<_>>()
            .ok_or("each share is a whole number of at most 1000")?;
        let [create, read, update, delete] = parts[..] else {
            return Err("four shares are needed: create:read:update:delete".to_owned());
        };
        if create + read + update + delete == 0 {
            return Err("one share at least must not be 0".to_owned());
        }
        Ok(Self {
            create,
            read,
            update,
            delete,
        })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            create,
            read,
            update,
            delete,
        } = self;
        write!(f, "{create}:{read}:{update}:{delete}")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Create,
    Read,
    Update,
    Delete,
}

impl Mix {
    fn choose(self, dice: &mut StdRng) -> Operation {
        let mut throw = dice.random_range(0..self.create + self.read + self.update + self.delete);
        for (share, operation) in [
            (self.create, Operation::Create),
            (self.read, Operation::Read),
            (self.update, Operation::Update),
        ] {
            if throw < share {
                return operation;
            }
            throw -= share;
        }
        Operation::Delete
    }
}

/// The results of one client.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The requests that it sent, and their answers.
    pub(crate) ledger: Ledger,
    /// How long each answer took, to its last byte.
    pub(crate) latencies: Latencies,
}

/// The progress of all clients together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Answers received.
    pub(crate) requests: u64,
    /// Requests without a complete answer.
    pub(crate) broken: u64,
}

/// The state that all clients share.
#[derive(Debug)]
struct Shared {
    client: Client,
    url: String,
    mix: Mix,
    seed: u64,
    items: Mutex<Vec<i64>>,
    stopped: AtomicBool,
    requests: AtomicU64,
    broken: AtomicU64,
}

/// The work of all clients.
#[derive(Debug)]
pub(crate) struct Workload {
    shared: Arc<Shared>,
}

impl Workload {
    /// A workload for the server at this URL.
    pub(crate) fn new(client: Client, url: String, mix: Mix, seed: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                url,
                mix,
                seed,
                items: Mutex::default(),
                stopped: AtomicBool::new(false),
                requests: AtomicU64::new(0),
                broken: AtomicU64::new(0),
            }),
        }
    }

    /// Asks every client to end after the request it has begun.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }

    /// The progress of all clients.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            requests: self.shared.requests.load(Ordering::Relaxed),
            broken: self.shared.broken.load(Ordering::Relaxed),
        }
    }

    /// One client, which sends one request after another until it is stopped.
    pub(crate) fn client(&self, index: u64) -> impl Future<Output = Tally> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        async move {
            let mut dice = StdRng::seed_from_u64(shared.seed.wrapping_add(index));
            let mut tally = Tally::default();
            while !shared.stopped.load(Ordering::Relaxed) {
                shared.step(&mut dice, &mut tally).await;
            }
            tally
        }
    }
}

impl Shared {
    /// Runs one operation. If there is no item, updates and deletes create one, and reads list the items.
    async fn step(&self, dice: &mut StdRng, tally: &mut Tally) {
        let operation = self.mix.choose(dice);
        // Every fifth read lists the newest items.
        let lists = operation == Operation::Read && dice.random_ratio(1, 5);
        let item = match operation {
            Operation::Create => None,
            Operation::Delete => self.pick(dice, true),
            Operation::Read | Operation::Update => self.pick(dice, false),
        };
        let (method, endpoint, path) = match (operation, item) {
            (Operation::Read, None) => (Method::GET, COLLECTION, format!("{COLLECTION}?limit=20")),
            (Operation::Read, Some(_)) if lists => {
                (Method::GET, COLLECTION, format!("{COLLECTION}?limit=20"))
            }
            (Operation::Read, Some(id)) => (Method::GET, ITEM, format!("{COLLECTION}/{id}")),
            (Operation::Update, Some(id)) => (Method::PUT, ITEM, format!("{COLLECTION}/{id}")),
            (Operation::Delete, Some(id)) => (Method::DELETE, ITEM, format!("{COLLECTION}/{id}")),
            (Operation::Create | Operation::Update | Operation::Delete, _) => {
                (Method::POST, COLLECTION, COLLECTION.to_owned())
            }
        };
        let mut request = self
            .client
            .request(method.clone(), format!("{}{path}", self.url));
        if method == Method::POST || method == Method::PUT {
            request = request.json(&item_body(dice));
        }
        self.send(request, &method, endpoint, tally).await;
    }

    async fn send(
        &self,
        request: RequestBuilder,
        method: &Method,
        endpoint: &str,
        tally: &mut Tally,
    ) {
        let start = Instant::now();
        let answer = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        };
        match answer.await {
            Ok((status, body)) => {
                tally.latencies.record(start.elapsed());
                tally
                    .ledger
                    .count(Row::new(method.as_str(), endpoint, status));
                self.requests.fetch_add(1, Ordering::Relaxed);
                if status == 201
                    && let Some(id) = created_id(&body)
                {
                    self.items().push(id);
                }
            }
            Err(error) => {
                tally.ledger.count_broken(&error);
                self.broken.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn pick(&self, dice: &mut StdRng, and_remove: bool) -> Option<i64> {
        let mut items = self.items();
        if items.is_empty() {
            return None;
        }
        let at = dice.random_range(0..items.len());
        Some(if and_remove {
            items.swap_remove(at)
        } else {
            items[at]
        })
    }

    fn items(&self) -> std::sync::MutexGuard<'_, Vec<i64>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn item_body(dice: &mut StdRng) -> Value {
    let number: u32 = dice.random();
    json!({
        "name": format!("Visitor {number}"),
        "email": format!("visitor{number}@example.com"),
        "message": dice.random_bool(0.5).then(|| "a message ".repeat(dice.random_range(1..20))),
    })
}

fn created_id(body: &[u8]) -> Option<i64> {
    serde_json::from_slice::<Value>(body).ok()?["id"].as_i64()
}
