//! Requests whose times are known, and what their timelines say. Each request is a random sequence of steps. The handler
//! measures each step by its own clock. At the end, the timeline of each kept request must agree with the handler.
//!
//! `VITALS_TIMELINES` sets the number of requests (1,500 by default), `VITALS_TIMELINES_SEED` the seed.

use std::{
    collections::{BTreeMap, HashMap},
    env,
    future::{Future as _, poll_fn},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    task::{Context, Poll, ready},
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};

use actix_vitals::{
    Vitals,
    database::Pool,
    http::{KeepReason, KeptFilter, KeptRequest, PhaseKind},
};
use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::StatusCode,
    rt::{
        System,
        time::{Sleep, sleep},
    },
    web::{self, Bytes},
};
use diesel::{
    Connection as _, RunQueryDsl as _, SqliteConnection,
    r2d2::{self, ConnectionManager},
    sql_query,
};
use futures_util::Stream;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::support::turn::turn;

const CLIENTS: u64 = 12;
const WORKERS: usize = 2;
/// Threads of each worker that may block: few, so that closures wait for them.
const BLOCKING_THREADS: usize = 3;
/// How long to wait for an answer.
const BOUND: Duration = Duration::from_secs(60);

/// The endpoints. Each request is sent to that of its first step.
const ENDPOINTS: [&str; 8] = [
    "/sleep",
    "/query",
    "/loop",
    "/wait",
    "/queue",
    "/spin",
    "/body",
    "/transaction",
];

/// What a request spends time on, as a handler sees it. An earlier kind is more specific than a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Query,
    /// From the call of a pool, or of `block`, to the beginning of the closure.
    InLine,
    /// A closure runs on a blocking thread.
    Blocking,
    /// The closure has ended, and the handler does not run yet: the thread returns its connection, or has ended.
    Tail,
    /// The handler or the body is polled.
    Loop,
    /// The handler waits to be polled.
    Awaiting,
    /// The body waits to be polled.
    BodyAwaiting,
}

/// What a handler measured of one request.
#[derive(Clone, Debug, Default)]
struct Truth {
    intervals: Vec<(Kind, Instant, Instant)>,
    queries: u64,
}

/// The times of a request by kind. Each moment counts once, for the most specific kind.
type Times = BTreeMap<Kind, Duration>;

impl Truth {
    fn add(&mut self, kind: Kind, began: Instant, ended: Instant) {
        self.intervals.push((kind, began, ended));
    }

    /// The times of the kinds that are wanted.
    fn times(&self, wanted: impl Fn(Kind) -> bool) -> Times {
        let wanted = self.intervals.iter().filter(|(kind, ..)| wanted(*kind));
        let intervals: Vec<_> = wanted.collect();
        let mut bounds: Vec<_> = (intervals.iter())
            .flat_map(|(_, began, ended)| [*began, *ended])
            .collect();
        bounds.sort_unstable();
        let mut times = Times::new();
        for (from, to) in bounds.iter().zip(bounds.iter().skip(1)) {
            let present = intervals.iter();
            let present = present.filter(|(_, began, ended)| began <= from && ended >= to);
            if let Some(kind) = present.map(|(kind, ..)| *kind).min() {
                *times.entry(kind).or_default() += *to - *from;
            }
        }
        times
    }
}

/// What the handlers measured, by the ids of the requests' traces.
type Truths = Arc<Mutex<HashMap<u128, Truth>>>;

/// The truth of a request that is being served.
type SharedTruth = Arc<Mutex<Truth>>;

#[derive(Clone)]
struct State {
    truths: Truths,
    pool: Pool<SqliteConnection>,
    /// A pool whose only connection is often taken.
    narrow: Pool<SqliteConnection>,
}

/// A step of a request: a letter for its kind, and its length.
#[derive(Clone, Copy, Debug)]
struct Step {
    kind: u8,
    length: u64,
}

impl Step {
    fn random(random: &mut StdRng) -> Self {
        let kind = b"sqlwkpbt"[random.random_range(0..8)];
        let length = match kind {
            b'l' => random.random_range(12..40),
            _ => random.random_range(1..12),
        };
        Self { kind, length }
    }

    fn endpoint(self) -> &'static str {
        let at = b"sqlwkpbt".iter().position(|kind| *kind == self.kind);
        ENDPOINTS[at.unwrap()]
    }

    fn time(self) -> Duration {
        Duration::from_millis(self.length)
    }
}

fn parse(plan: &str) -> Vec<Step> {
    let steps = plan.split(',').map(|step| Step {
        kind: step.as_bytes()[0],
        length: step[1..].parse().unwrap(),
    });
    steps.collect()
}

/// Runs a query on a blocking thread.
fn run_query(connection: &mut SqliteConnection, rows: u64, truth: &SharedTruth) {
    let query = sql_query(format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows}) \
         SELECT count(*) FROM numbers"
    ));
    let began = Instant::now();
    query.execute(connection).expect("a query");
    let ended = Instant::now();
    let mut truth = truth.lock().unwrap();
    truth.add(Kind::Query, began, ended);
    truth.queries += 1;
}

/// Measures a closure that is to run on a blocking thread, and its wait for that.
struct Line {
    called: Instant,
    truth: SharedTruth,
}

impl Line {
    fn enter(truth: &SharedTruth) -> Self {
        Self {
            called: Instant::now(),
            truth: Arc::clone(truth),
        }
    }

    /// Runs `work`, and returns when it has ended.
    fn run(self, work: impl FnOnce(&SharedTruth)) -> Instant {
        let began = Instant::now();
        work(&self.truth);
        let ended = Instant::now();
        let mut truth = self.truth.lock().unwrap();
        truth.add(Kind::InLine, self.called, began);
        truth.add(Kind::Blocking, began, ended);
        ended
    }
}

/// Runs `work` with a connection of a pool.
async fn on_pool(
    pool: &Pool<SqliteConnection>,
    truth: &SharedTruth,
    work: impl FnOnce(&mut SqliteConnection, &SharedTruth) + Send + 'static,
) {
    let line = Line::enter(truth);
    let ended = pool
        .run(move |connection| {
            let ended = line.run(|truth| work(connection, truth));
            Ok::<_, diesel::result::Error>(ended)
        })
        .await
        .expect("a connection");
    let mut truth = truth.lock().unwrap();
    truth.add(Kind::Tail, ended, Instant::now());
}

async fn perform(step: Step, state: &State, truth: &SharedTruth) {
    match step.kind {
        b's' => sleep(step.time()).await,
        b'q' => {
            on_pool(&state.pool, truth, move |connection, truth| {
                run_query(connection, step.length * 4_000, truth);
            })
            .await;
        }
        b'l' => {
            on_pool(&state.pool, truth, move |connection, truth| {
                for _ in 0..step.length {
                    run_query(connection, 100, truth);
                }
            })
            .await;
        }
        b'w' => {
            on_pool(&state.narrow, truth, move |_, _| thread::sleep(step.time())).await;
        }
        b'k' => {
            let line = Line::enter(truth);
            let closure = move || line.run(|_| thread::sleep(step.time()));
            let blocked = actix_vitals::block(closure).await;
            blocked.expect("a thread");
        }
        b'p' => {
            let began = Instant::now();
            while began.elapsed() < step.time() / 4 {
                std::hint::spin_loop();
            }
        }
        b't' => {
            on_pool(&state.pool, truth, move |connection, truth| {
                let transaction = connection.transaction(|connection| {
                    run_query(connection, 1_000, truth);
                    thread::sleep(step.time());
                    Ok::<_, diesel::result::Error>(())
                });
                transaction.expect("a transaction");
            })
            .await;
        }
        _ => {}
    }
}

/// Polls by `poll` and measures it, and the wait since the last poll if that was `pending`.
fn measure_poll<T>(
    truth: &SharedTruth,
    pending: &mut Option<Instant>,
    wait: Kind,
    poll: impl FnOnce() -> Poll<T>,
) -> Poll<T> {
    let began = Instant::now();
    let polled = poll();
    let ended = Instant::now();
    let mut truth = truth.lock().unwrap();
    if let Some(since) = pending.take() {
        truth.add(wait, since, began);
    }
    truth.add(Kind::Loop, began, ended);
    *pending = polled.is_pending().then_some(ended);
    polled
}

/// Performs the steps of a request, and answers with a body that performs those of the body.
async fn handle(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let header = request.headers().get("traceparent").unwrap();
    let trace = u128::from_str_radix(&header.to_str().unwrap()[3..35], 16).unwrap();
    let steps = parse(request.query_string());
    let truth = SharedTruth::default();
    {
        let performed = async {
            for step in &steps {
                perform(*step, &state, &truth).await;
            }
        };
        let mut performed = pin!(performed);
        let mut pending = None;
        poll_fn(|cx| {
            measure_poll(&truth, &mut pending, Kind::Awaiting, || {
                performed.as_mut().poll(cx)
            })
        })
        .await;
    }
    let status = if trace.is_multiple_of(16) {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    let chunks: Vec<_> = steps.into_iter().filter(|step| step.kind == b'b').collect();
    let body = Body {
        truth,
        trace,
        chunks,
        sleeping: None,
        pending: None,
        truths: Arc::clone(&state.truths),
    };
    if body.chunks.is_empty() {
        return HttpResponse::build(status).finish();
    }
    HttpResponse::build(status).streaming(body)
}

/// A body that sleeps before each of its chunks. At its end it hands in what was measured.
struct Body {
    truth: SharedTruth,
    trace: u128,
    chunks: Vec<Step>,
    sleeping: Option<Pin<Box<Sleep>>>,
    pending: Option<Instant>,
    truths: Truths,
}

impl Stream for Body {
    type Item = actix_web::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let (chunks, sleeping) = (&mut this.chunks, &mut this.sleeping);
        measure_poll(&this.truth, &mut this.pending, Kind::BodyAwaiting, || {
            if sleeping.is_none() {
                let Some(step) = chunks.pop() else {
                    return Poll::Ready(None);
                };
                *sleeping = Some(Box::pin(sleep(step.time())));
            }
            if let Some(slept) = sleeping {
                ready!(slept.as_mut().poll(cx));
                *sleeping = None;
            }
            Poll::Ready(Some(Ok(Bytes::from(vec![b'x'; 1_000]))))
        })
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let truth = self.truth.lock().unwrap().clone();
        self.truths.lock().unwrap().insert(self.trace, truth);
    }
}

async fn serve(vitals: Vitals, truths: Truths, started: mpsc::Sender<(SocketAddr, ServerHandle)>) {
    let directory = tempfile::tempdir().expect("a directory");
    let pool = |name: &str, size| {
        let path = directory.path().join(name);
        let manager = ConnectionManager::<SqliteConnection>::new(path.to_str().expect("UTF-8"));
        let builder = vitals.instrument(r2d2::Pool::builder().max_size(size));
        builder.name(name).build(manager).expect("a pool")
    };
    let state = State {
        truths,
        pool: pool("wide", 4),
        narrow: pool("narrow", 1),
    };
    let monitor = vitals.http();
    let server = HttpServer::new(move || {
        let app = App::new().app_data(web::Data::new(state.clone()));
        let app = ENDPOINTS
            .iter()
            .fold(app, |app, path| app.route(path, web::get().to(handle)));
        app.wrap(monitor.clone())
    })
    .workers(WORKERS)
    .worker_max_blocking_threads(BLOCKING_THREADS)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    started
        .send((address, server.handle()))
        .expect("a receiver");
    server.await.expect("it ends");
}

/// Sends requests until all are sent.
fn send(address: SocketAddr, seed: u64, left: &AtomicU64) {
    let mut random = StdRng::seed_from_u64(seed);
    while left
        .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
        .is_ok()
    {
        let steps: Vec<_> = (0..random.random_range(1..4))
            .map(|_| Step::random(&mut random))
            .collect();
        let plan: Vec<_> = (steps.iter())
            .map(|step| format!("{}{}", char::from(step.kind), step.length))
            .collect();
        let trace: u128 = random.random();
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(BOUND)).unwrap();
        write!(
            connection,
            "GET {}?{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             traceparent: 00-{trace:032x}-00f067aa0ba902b7-00\r\n\r\n",
            steps[0].endpoint(),
            plan.join(","),
        )
        .unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 "));
    }
}

/// How far timelines are from the truth.
#[derive(Debug, Default)]
struct Findings {
    checked: usize,
    phases: usize,
    /// Phases that are off by more than 5 % and more than 1 ms.
    off: Vec<String>,
    least_explained: f64,
}

fn check(kept: &[Arc<KeptRequest>], truths: &HashMap<u128, Truth>) -> Findings {
    let mut findings = Findings {
        least_explained: 100.0,
        ..Findings::default()
    };
    for request in kept {
        let truth = &truths[&request.trace.unwrap().span.trace_id];
        let explanation = request.explain();
        findings.checked += 1;
        findings.least_explained = findings.least_explained.min(explanation.percent());
        assert_eq!(request.queries, truth.queries, "{request:?}");
        // The tail belongs to the thread for as long as that returns its connection, which the handler cannot see.
        let least = truth.times(|_| true);
        let most = truth.times(|kind| kind != Kind::Tail);
        let tail = least.get(&Kind::Tail).copied().unwrap_or_default();
        for (kind, kinds) in [
            (Kind::Query, &[PhaseKind::Query][..]),
            (
                Kind::InLine,
                &[PhaseKind::PoolWait, PhaseKind::BlockingQueue],
            ),
            (
                Kind::Blocking,
                &[
                    PhaseKind::BlockingThread,
                    PhaseKind::Transaction,
                    PhaseKind::TransactionControl,
                ],
            ),
            (Kind::Loop, &[PhaseKind::EventLoop]),
            (Kind::Awaiting, &[PhaseKind::Awaiting]),
            (Kind::BodyAwaiting, &[PhaseKind::BodyAwaiting]),
        ] {
            let found: Duration = kinds.iter().map(|kind| explanation.time(*kind)).sum();
            let of = |times: &Times| times.get(&kind).copied().unwrap_or_default();
            let (least, mut most) = (of(&least), of(&most));
            if kind == Kind::Blocking {
                most += tail;
            }
            let tolerance = (most / 20).max(Duration::from_millis(1));
            findings.phases += 1;
            if found + tolerance < least || found > most + tolerance {
                findings.off.push(format!(
                    "{kind:?}: {found:?} in place of {least:?} to {most:?} of {:?}, {}",
                    request.duration, request.endpoint
                ));
            }
        }
    }
    findings
}

/// One request of each endpoint and minute is chosen at random, and no more.
fn check_chosen(vitals: &Vitals) {
    let chosen = vitals.kept_requests().list(&KeptFilter {
        reason: Some(KeepReason::Random),
        ..KeptFilter::default()
    });
    let mut of_endpoint = BTreeMap::<_, Vec<u64>>::new();
    for request in &chosen {
        let at = request.at.duration_since(UNIX_EPOCH).unwrap().as_secs();
        of_endpoint
            .entry(request.endpoint.to_string())
            .or_default()
            .push(at);
    }
    assert_eq!(of_endpoint.len(), ENDPOINTS.len(), "{of_endpoint:?}");
    for (endpoint, times) in of_endpoint {
        let span = times.iter().max().unwrap() - times.iter().min().unwrap();
        // The minutes are those of the recorder's clock.
        let most = span / 60 + 2;
        assert!(times.len() as u64 <= most, "{endpoint}: {times:?}");
    }
}

fn number_of(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |value| value.parse().expect("a number"))
}

fn run() {
    let requests = number_of("VITALS_TIMELINES", 1_500);
    let seed = number_of("VITALS_TIMELINES_SEED", 4711);
    let vitals = Vitals::builder().keep_requests(2_500).build().unwrap();
    let truths = Truths::default();
    let (send_started, started) = mpsc::channel();
    let server = {
        let (vitals, truths) = (vitals.clone(), Arc::clone(&truths));
        thread::spawn(move || System::new().block_on(serve(vitals, truths, send_started)))
    };
    let (address, handle) = started.recv_timeout(BOUND).expect("a server");
    let left = AtomicU64::new(requests);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let left = &left;
            scope.spawn(move || send(address, seed + client, left));
        }
    });
    drop(handle.stop(true));
    server.join().expect("the server ends");
    let truths = truths.lock().unwrap();
    assert_eq!(truths.len() as u64, requests);
    let kept = vitals.kept_requests().list(&KeptFilter::default());
    let findings = check(&kept, &truths);
    println!(
        "{requests} requests, seed {seed}: {} kept, {} phases, {} off; at least {:.2} % explained",
        findings.checked,
        findings.phases,
        findings.off.len(),
        findings.least_explained
    );
    println!("{:#?}", findings.off);
    assert!(findings.checked >= 100, "{}", findings.checked);
    assert!(findings.least_explained >= 95.0, "{findings:?}");
    // A thread that the system stops between the two clocks makes them differ.
    assert!(findings.off.len() * 100 <= findings.phases, "{findings:#?}");
    check_chosen(&vitals);
}

#[tokio::test]
async fn timelines_say_what_the_handlers_measured() {
    let _turn = turn().await;
    tokio::task::spawn_blocking(run).await.expect("no panic");
}
