//! SIGTERM under load, at any moment: each accepted request is answered, and the last scrape has exactly the counts of the
//! clients.
//!
//! `VITALS_SHUTDOWN_ROUNDS` sets the number of rounds (20 by default), `VITALS_SHUTDOWN_SEED` the seed.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::exposition::Exposition;
use crate::support::server::Server;

const CLIENTS: u64 = 12;

/// Rounds that run at the same time. A round mostly waits.
const LANES: u64 = 4;

const BODY: &str = r#"{"name": "Ada", "email": "ada@example.com"}"#;

/// The shutdown timeout of every server here.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The number of requests by method, endpoint and status.
pub(super) type Rows = BTreeMap<[String; 3], u64>;

/// The records of the clients.
#[derive(Debug, Default)]
struct Books {
    answered: Rows,
    /// Requests without an answer on a connection that had been served before.
    lost: Vec<String>,
    /// First requests of connections that were not accepted, because the listener closed.
    not_accepted: u64,
}

impl Books {
    fn count(&mut self, method: &str, endpoint: &str, status: u16) {
        let row = [method, endpoint, &status.to_string()].map(ToOwned::to_owned);
        *self.answered.entry(row).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        for (row, count) in other.answered {
            *self.answered.entry(row).or_default() += count;
        }
        self.lost.extend(other.lost);
        self.not_accepted += other.not_accepted;
    }
}

/// A connection, and the number of its answers.
struct Connection {
    reader: BufReader<TcpStream>,
    answers: u64,
}

/// An answer: its status, whether it is the connection's last, and its body.
struct Answer {
    status: u16,
    is_last: bool,
    body: String,
}

impl Connection {
    fn open(authority: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(authority)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self {
            reader: BufReader::new(stream),
            answers: 0,
        })
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.reader.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_ascii_lowercase();
        let header = |name: &str| {
            let mut lines = head.lines();
            lines.find_map(|line| line.strip_prefix(name).map(ToOwned::to_owned))
        };
        let length = header("content-length: ").expect("a length");
        let mut body = vec![0; length.parse().expect("a length")];
        self.reader.read_exact(&mut body)?;
        self.answers += 1;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Ok(Answer {
            status: status.expect("a status"),
            is_last: header("connection: ").is_some_and(|connection| connection == "close"),
            body: String::from_utf8(body).expect("a text"),
        })
    }
}

fn post(body: &str) -> String {
    format!(
        "POST /data HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One client, on one connection after another, until the listener is closed.
fn client(authority: &str, mut dice: StdRng) -> Books {
    let mut books = Books::default();
    while let Ok(mut connection) = Connection::open(authority) {
        loop {
            let choice = dice.random_range(0..10);
            let (method, endpoint, request) = match choice {
                0..4 => ("POST", "/data", post(BODY)),
                4..7 => (
                    "GET",
                    "/data/{item_id}",
                    "GET /data/1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                ),
                _ => (
                    "GET",
                    "/data",
                    "GET /data?limit=5 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                ),
            };
            // Some bodies are sent in two parts, so that the signal arrives between them.
            let half = if choice == 0 {
                request.len() - 20
            } else {
                request.len()
            };
            let answer = connection.send(&request.as_bytes()[..half]).and_then(|()| {
                if half < request.len() {
                    thread::sleep(Duration::from_millis(dice.random_range(0..150)));
                    connection.send(&request.as_bytes()[half..])?;
                }
                connection.answer()
            });
            match answer {
                Ok(answer) => {
                    books.count(method, endpoint, answer.status);
                    if answer.is_last {
                        break;
                    }
                }
                Err(_) if connection.answers == 0 => {
                    books.not_accepted += 1;
                    break;
                }
                Err(error) => {
                    let answers = connection.answers;
                    books.lost.push(format!(
                        "{method} {endpoint} after {answers} answers: {error}"
                    ));
                    break;
                }
            }
        }
    }
    books
}

/// Scrapes without a pause until the listener is closed, and returns the last exposition.
pub(super) fn scrape_to_the_end(authority: &str) -> String {
    let mut last = String::new();
    while let Ok(mut connection) = Connection::open(authority) {
        while let Ok(answer) = connection
            .send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            .and_then(|()| connection.answer())
        {
            assert_eq!(answer.status, 200);
            last = answer.body;
            if answer.is_last {
                break;
            }
        }
    }
    last
}

pub(super) fn counted(scrape: &str) -> Rows {
    let scrape = Exposition::parse(scrape).expect("a scrape");
    let level = scrape.value("inprogress_requests", &[]);
    assert!(
        level.abs() < f64::EPSILON,
        "{level} requests are in flight at the end"
    );
    let rows = scrape.series("http_requests_total").into_iter();
    rows.map(|(labels, value)| {
        let row = ["method", "endpoint", "http_status"].map(|name| labels[name].clone());
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count"
        )]
        (row, value as u64)
    })
    .filter(|(_, count)| *count > 0)
    .collect()
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// Starts a server, sends the signal under load, and compares the last scrape with the clients' records.
fn round(round: u64, dice: &mut StdRng) -> Books {
    let timeout = format!("{}s", TIMEOUT.as_secs());
    let flags = [
        "--ops-listen",
        "127.0.0.1:0",
        "--shutdown-timeout",
        &timeout,
    ];
    let mut server = Server::start_with(&flags);
    let ops = server.next_address();
    let ops = ops.trim_start_matches("http://").to_owned();
    // The server is ready before the clients connect.
    let mut first = Connection::open(server.authority()).unwrap();
    first.send(post(BODY).as_bytes()).unwrap();
    assert_eq!(first.answer().unwrap().status, 201);
    let watcher = thread::spawn(move || scrape_to_the_end(&ops));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let authority = server.authority().to_owned();
            let dice = StdRng::seed_from_u64(dice.random());
            thread::spawn(move || client(&authority, dice))
        })
        .collect();
    thread::sleep(Duration::from_millis(dice.random_range(20..300)));
    // In every second round a lock delays writes, so that many are in flight.
    let lock = round.is_multiple_of(2).then(|| {
        let path = server.database();
        let mut lock = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        lock.batch_execute("PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE")
            .unwrap();
        lock
    });
    let signalled = Instant::now();
    server.signal("TERM");
    if let Some(mut lock) = lock {
        thread::sleep(Duration::from_millis(dice.random_range(0..700)));
        lock.batch_execute("COMMIT").unwrap();
    }
    let mut books = Books::default();
    books.count("POST", "/data", 201);
    for client in clients {
        books.merge(client.join().expect("no client panics"));
    }
    assert_eq!(server.ended(), Some(0), "round {round}");
    let passed = signalled.elapsed();
    assert!(passed < TIMEOUT, "round {round}: {passed:?}");
    assert_eq!(books.lost, [""; 0], "round {round}: lost in flight");
    let scraped = watcher.join().expect("the scraper does not panic");
    assert_eq!(counted(&scraped), books.answered, "round {round}");
    books
}

#[test]
fn a_signal_under_load_loses_no_request_and_the_last_scrape_counts_all() {
    let rounds = setting("VITALS_SHUTDOWN_ROUNDS", 20);
    let seed = setting("VITALS_SHUTDOWN_SEED", rand::random());
    println!("{rounds} rounds, seed {seed}");
    let mut books = Books::default();
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                scope.spawn(move || {
                    let mut dice = StdRng::seed_from_u64(seed.wrapping_add(lane));
                    let mut books = Books::default();
                    for number in 0..rounds {
                        if number % LANES == lane {
                            books.merge(round(number / LANES, &mut dice));
                        }
                    }
                    books
                })
            })
            .collect();
        for lane in lanes {
            books.merge(lane.join().expect("no lane panics"));
        }
    });
    let answered: u64 = books.answered.values().sum();
    let not_accepted = books.not_accepted;
    println!("{answered} requests answered, {not_accepted} not accepted by a listener that closed");
    assert!(answered > rounds * 10, "too little load for the test");
}
