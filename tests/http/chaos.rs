//! Clients of every kind at once, correct and hostile. Each keeps a ledger of its requests, and at the end the counters must
//! agree with the ledgers exactly.
//!
//! A client records what it knows: method, endpoint, status, and how the request ended. If it leaves at a random byte or does
//! not read the answer, it does not know. Then the total must agree: each request head that the server parsed, counted
//! outside of the middleware, is in `http_requests_total` once.
//!
//! `VITALS_CHAOS_REQUESTS` sets the number of actions (20,000 by default), `VITALS_CHAOS_SEED` the seed.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use actix_vitals::Vitals;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::http::{app::TestApp, count};

const CLIENTS: usize = 16;

/// `(method, endpoint, status)` or `(method, endpoint, phase)` to a count.
type Tally = BTreeMap<[String; 3], u64>;

/// The requests of a client.
#[derive(Debug, Default, PartialEq)]
struct Ledger {
    /// Requests with known labels.
    requests: Tally,
    /// Requests whose head arrived and whose end is unknown: the total is larger by at least this number.
    unknown: u64,
    aborted: Tally,
    panics: BTreeMap<String, u64>,
    streams: BTreeMap<String, u64>,
}

impl Ledger {
    fn request(&mut self, method: &str, endpoint: &str, status: u16) {
        let labels = [method.to_owned(), endpoint.to_owned(), status.to_string()];
        *self.requests.entry(labels).or_default() += 1;
    }

    fn abort(&mut self, method: &str, endpoint: &str, phase: &str) {
        let labels = [method.to_owned(), endpoint.to_owned(), phase.to_owned()];
        *self.aborted.entry(labels).or_default() += 1;
    }

    fn panic(&mut self, endpoint: &str) {
        *self.panics.entry(endpoint.to_owned()).or_default() += 1;
    }

    fn stream(&mut self, endpoint: &str) {
        *self.streams.entry(endpoint.to_owned()).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        self.unknown += other.unknown;
        for (mine, theirs) in [
            (&mut self.requests, other.requests),
            (&mut self.aborted, other.aborted),
        ] {
            for (labels, requests) in theirs {
                *mine.entry(labels).or_default() += requests;
            }
        }
        for (mine, theirs) in [
            (&mut self.panics, other.panics),
            (&mut self.streams, other.streams),
        ] {
            for (endpoint, requests) in theirs {
                *mine.entry(endpoint).or_default() += requests;
            }
        }
    }
}

/// One client, with one connection at a time, a seeded source of actions, and a ledger.
struct Client {
    address: SocketAddr,
    random: StdRng,
    ledger: Ledger,
}

/// A whole exchange: method, target, extra head lines and body, then the endpoint and the status that it must get.
type Exchange = (&'static str, &'static str, &'static str, &'static str, u16);

const EXCHANGES: [Exchange; 14] = [
    ("GET", "/ok", "", "/ok", 200),
    ("HEAD", "/ok", "", "/ok", 200),
    ("GET", "/items/7", "", "/items/{id}", 200),
    ("GET", "/items/seven", "", "/items/{id}", 404),
    ("DELETE", "/empty", "", "/empty", 204),
    ("GET", "/error", "", "/error", 409),
    ("POST", "/ok", "Content-Length: 0\r\n", "/ok", 405),
    ("OPTIONS", "/ok", "", "/ok", 405),
    ("GET", "/nothing/here", "", "unmatched", 404),
    ("GET", "/wp-login.php?id=1", "", "unmatched", 404),
    ("GET", "/guarded/door", "", "/guarded/door", 403),
    (
        "GET",
        "/users/ada/posts/3",
        "",
        "/users/{user}/posts/{post}",
        200,
    ),
    ("GET", "/users/ada/elsewhere", "", "/users/{user}/*", 200),
    ("BREW", "/ok", "", "/ok", 405),
];

/// Any method that its route does not have is `other`.
fn method_label(method: &str, status: u16) -> &str {
    if status == 405 { "other" } else { method }
}

impl Client {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// Performs one action and records it.
    fn act(&mut self) {
        match self.random.random_range(0..100) {
            0..35 => self.exchange(),
            35..45 => self.post(),
            45..55 => self.pipeline(),
            55..58 => self.http_1_0(),
            58..61 => self.drip(),
            61..66 => self.panic(),
            66..67 => self.panic_in_body(),
            67..73 => self.leave_before_the_head(),
            73..76 => self.leave_mid_body(),
            76..79 => self.read_a_broken_body(),
            79..83 => self.stream(),
            83..88 => self.malformed(),
            88..93 => self.leave_in_the_request(),
            _ => self.leave_in_the_response(),
        }
    }

    fn exchange(&mut self) {
        let (method, target, extra, endpoint, status) =
            *EXCHANGES.choose(&mut self.random).expect("some");
        let mut stream = self.connect();
        send(&mut stream, &head(method, target, extra));
        assert_eq!(
            read_answer(&mut stream, method == "HEAD"),
            status,
            "{method} {target}"
        );
        self.ledger
            .request(method_label(method, status), endpoint, status);
    }

    fn post(&mut self) {
        let body = vec![b'x'; self.random.random_range(0..20_000)];
        let mut stream = self.connect();
        let length = format!("Content-Length: {}\r\n", body.len());
        send(&mut stream, &head("POST", "/echo", &length));
        send(&mut stream, &body);
        assert_eq!(read_answer(&mut stream, false), 201);
        self.ledger.request("POST", "/echo", 201);
    }

    /// Several requests in one write, their answers read one after the other.
    ///
    /// None is a HEAD: Actix takes the method of the last head it has parsed for that of the request it answers, and
    /// would leave out the body of a GET that a HEAD follows.
    fn pipeline(&mut self) {
        let requests: Vec<Exchange> = (0..self.random.random_range(2..8))
            .map(|_| *EXCHANGES.choose(&mut self.random).expect("some"))
            .filter(|(method, ..)| *method != "HEAD")
            .collect();
        let mut stream = self.connect();
        let bytes: Vec<u8> = requests
            .iter()
            .flat_map(|(method, target, extra, ..)| head(method, target, extra))
            .collect();
        send(&mut stream, &bytes);
        for (method, target, _, endpoint, status) in requests {
            assert_eq!(
                read_answer(&mut stream, method == "HEAD"),
                status,
                "{method} {target}"
            );
            self.ledger
                .request(method_label(method, status), endpoint, status);
        }
    }

    fn http_1_0(&mut self) {
        let mut stream = self.connect();
        send(&mut stream, b"GET /ok HTTP/1.0\r\n\r\n");
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .expect("an answer that ends with the connection");
        assert!(
            answer.starts_with(b"HTTP/1.0 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        self.ledger.request("GET", "/ok", 200);
    }

    /// A head that arrives in small pieces.
    fn drip(&mut self) {
        let mut stream = self.connect();
        for piece in head("GET", "/items/1", "X-Drip: drop by drop\r\n").chunks(9) {
            send(&mut stream, piece);
            thread::sleep(Duration::from_micros(300));
        }
        assert_eq!(read_answer(&mut stream, false), 200);
        self.ledger.request("GET", "/items/{id}", 200);
    }

    /// A handler that panics answers 500, and its connection stays usable.
    fn panic(&mut self) {
        let mut stream = self.connect();
        send(&mut stream, &head("GET", "/panic", ""));
        assert_eq!(read_answer(&mut stream, false), 500);
        self.ledger.request("GET", "/panic", 500);
        self.ledger.panic("/panic");
        send(&mut stream, &head("GET", "/ok", ""));
        assert_eq!(read_answer(&mut stream, false), 200);
        self.ledger.request("GET", "/ok", 200);
    }

    fn panic_in_body(&mut self) {
        self.read_a_cut_answer("/panic-in-body");
        self.ledger.panic("/panic-in-body");
    }

    fn read_a_broken_body(&mut self) {
        self.read_a_cut_answer("/broken");
    }

    /// The head says 200, the body breaks off.
    fn read_a_cut_answer(&mut self, path: &'static str) {
        let mut stream = self.connect();
        send(&mut stream, &head("GET", path, ""));
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{path}"),
        }
        assert!(!answer.ends_with(b"0\r\n\r\n"), "{path} must not end well");
        self.ledger.request("GET", path, 200);
        self.ledger.abort("GET", path, "body");
    }

    /// Requests an endless handler, and closes the connection at once or a little later.
    fn leave_before_the_head(&mut self) {
        let mut stream = self.connect();
        send(&mut stream, &head("GET", "/slow", ""));
        if self.random.random_bool(0.5) {
            thread::sleep(Duration::from_micros(self.random.random_range(0..3000)));
        }
        stream
            .shutdown(Shutdown::Write)
            .expect("a connection to close");
        self.ledger.request("GET", "/slow", 499);
        self.ledger.abort("GET", "/slow", "before_head");
    }

    /// Reads a part of an endless body and closes the connection.
    fn leave_mid_body(&mut self) {
        let mut stream = self.connect();
        send(&mut stream, &head("GET", "/endless", ""));
        let mut some = vec![0; self.random.random_range(1..40_000)];
        stream
            .read_exact(&mut some)
            .expect("the start of an endless answer");
        self.ledger.request("GET", "/endless", 200);
        self.ledger.abort("GET", "/endless", "body");
    }

    fn stream(&mut self) {
        let path = if self.random.random_bool(0.5) {
            "/events"
        } else {
            "/marked"
        };
        let mut stream = self.connect();
        send(&mut stream, &head("GET", path, ""));
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"data: 1\n\n") {
            stream.read_exact(&mut byte).expect("an event");
            answer.push(byte[0]);
        }
        self.ledger.request("GET", path, 200);
        self.ledger.stream(path);
    }

    /// Sends bytes that are not a request: they are answered with 400 or closed, and not counted.
    fn malformed(&mut self) {
        const NONSENSE: [&[u8]; 5] = [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /ok\r\n\r\n",
            b"GET /ok HTTP/1.1\r\nHost: a\r\nBroken header\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: many\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        ];
        let mut stream = self.connect();
        send(
            &mut stream,
            NONSENSE.choose(&mut self.random).expect("some"),
        );
        drop(stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }

    /// Closes the connection at a random byte of the request. It counts only if its head was complete.
    fn leave_in_the_request(&mut self) {
        let head = head("POST", "/echo", "Content-Length: 5000\r\n");
        let length = self.random.random_range(1..head.len() + 5000);
        let mut request = head.clone();
        request.resize(head.len() + 5000, b'x');
        let mut stream = self.connect();
        send(&mut stream, &request[..length]);
        stream
            .shutdown(Shutdown::Write)
            .expect("a connection to close");
        if length >= head.len() {
            self.ledger.unknown += 1;
        }
        drop(stream.read_to_end(&mut Vec::new()));
    }

    /// Closes the connection at a random byte of the answer.
    fn leave_in_the_response(&mut self) {
        let mut stream = self.connect();
        send(&mut stream, &head("GET", "/items/12", ""));
        let mut some = vec![0; self.random.random_range(1..60)];
        stream
            .read_exact(&mut some)
            .expect("the start of an answer");
        self.ledger.request("GET", "/items/{id}", 200);
    }
}

fn head(method: &str, target: &str, extra: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: chaos\r\n{extra}\r\n").into_bytes()
}

/// Sends, and ignores an error if the server has closed the connection.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    drop(stream.write_all(bytes));
}

/// Reads exactly one answer. Returns its status.
fn read_answer(stream: &mut TcpStream, is_head: bool) -> u16 {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("the head of an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)
        .expect("a head in ASCII")
        .to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().expect("a length"));
    if !is_head {
        stream
            .read_exact(&mut vec![0; length])
            .expect("the body of an answer");
    }
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status in {head:?}"))
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn every_request_of_a_chaotic_crowd_is_counted_exactly_once() {
    let actions = setting("VITALS_CHAOS_REQUESTS", 20_000);
    let seed = setting("VITALS_CHAOS_SEED", 0x5eed);
    println!("chaos: {actions} actions, seed {seed}");
    let app = TestApp::start(Vitals::builder().build().expect("defaults build"));

    let clients: Vec<_> = (0..CLIENTS as u64)
        .map(|client| {
            let mut client = Client {
                address: app.address,
                random: StdRng::seed_from_u64(seed.wrapping_add(client)),
                ledger: Ledger::default(),
            };
            thread::spawn(move || {
                for _ in 0..actions / CLIENTS as u64 {
                    client.act();
                }
                client.ledger
            })
        })
        .collect();
    let mut ledger = Ledger::default();
    for client in clients {
        ledger.merge(client.join().expect("a client that met what it expected"));
    }

    let count = count::Count::of(&app.vitals);
    let deadline = Instant::now() + Duration::from_secs(60);
    while count.in_progress() > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count.in_progress(), 0, "every record is settled");

    let total: u64 = count.requests().values().sum();
    assert_eq!(total, app.heads(), "every parsed head is counted once");
    assert!(total >= actions / 2, "the crowd was busy");
    assert_eq!(
        total,
        ledger.requests.values().sum::<u64>() + ledger.unknown,
        "the total agrees with the ledger"
    );

    // Requests with an unknown end are all uploads, which are not compared one by one.
    let certain = |tally: Tally| -> Tally {
        tally
            .into_iter()
            .filter(|([_, endpoint, _], _)| endpoint != "/echo")
            .collect()
    };
    assert_eq!(
        certain(count.requests()),
        certain(ledger.requests),
        "requests by label set"
    );
    assert_eq!(
        certain(count.aborted()),
        certain(ledger.aborted),
        "aborted requests by phase"
    );
    assert_eq!(count.panics(), ledger.panics, "panics");
    assert_eq!(count.streams_ended(), ledger.streams, "streams, each ended");
    assert!(
        count.streams_active().values().all(|active| *active == 0),
        "no stream is left open"
    );

    let mut timed = count.requests();
    timed.retain(|[_, endpoint, _], _| endpoint != "/events" && endpoint != "/marked");
    assert_eq!(count.durations(), timed, "all but streams are timed");
}
