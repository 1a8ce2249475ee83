//! A service that is profiled back to back, while a crowd makes it panic, start child processes, raise signals, speak TLS and
//! use both databases. Each client records its requests, and at the end the counters agree with the records exactly.
//!
//! `VITALS_PROFILED_TIME` sets the duration (`10s` by default, `1h` in `make soak`). The process may be suspended meanwhile: no
//! time limit is short.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    panic,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use actix_vitals::{
    Vitals, block,
    database::{Explainable, Pool},
    ops::OpsSettings,
};
use actix_web::{
    App, HttpResponse, HttpServer,
    error::ErrorServiceUnavailable,
    rt::System,
    web::{self, Data},
};
use diesel::{
    PgConnection, QueryResult, RunQueryDsl as _, SqliteConnection,
    connection::SimpleConnection,
    r2d2::{self, ConnectionManager, R2D2Connection},
    sql_query,
};
use exporter_web_config::{Reloading, ServerStream, WebConfigFile};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use signal_hook::{consts::SIGUSR1, flag, low_level::raise};
use tokio::net::{TcpListener, TcpStream as AsyncStream};

use crate::{
    authority::Authority,
    burn_in_a_blocking_thread, burn_in_async,
    support::{
        exposition::{Exposition, whole},
        postgres::Cluster,
        server::Data as _,
        tools,
    },
};

/// How long anything may take. The process may be suspended for a while.
const BOUND: Duration = Duration::from_secs(600);

/// The clients with and without TLS, and those that leave early.
const ENCRYPTED: usize = 4;
const PLAIN: usize = 4;
const LEAVING: usize = 2;

/// The longest pause of a client between two requests, in milliseconds.
const PAUSE: u64 = 60;

/// The duration of each processor profile: twelve in a minute are allowed.
const PROFILE_TIME: Duration = Duration::from_secs(5);

/// The paths of the crowd with their endpoints and statuses.
const REQUESTS: [(&str, &str, u16); 10] = [
    ("/async/7", "/async/{id}", 200),
    ("/blocking/7", "/blocking/{id}", 200),
    ("/sqlite", "/sqlite", 200),
    ("/sqlite", "/sqlite", 200),
    ("/postgres", "/postgres", 200),
    ("/postgres", "/postgres", 200),
    ("/panic", "/panic", 500),
    ("/panic/blocking", "/panic/blocking", 500),
    ("/child", "/child", 200),
    ("/signal", "/signal", 200),
];

/// The statements of a request to a database, each of which is counted.
const STATEMENTS: u64 = 3;

/// How long a connection is used. The pools replace older ones twice a minute.
const CONNECTION_TIME: Duration = Duration::from_secs(20);

/// The statements that prepared the databases and their connections, which are counted as well.
static PREPARED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// The pools.
const POOLS: [&str; 2] = ["sqlite", "postgres"];

/// Requests by endpoint and status.
type Tally = BTreeMap<(String, String), u64>;

/// The records of all clients.
#[derive(Default)]
struct Ledger(Mutex<Tally>);

impl Ledger {
    fn record(&self, endpoint: &str, status: u16) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *rows
            .entry((endpoint.to_owned(), status.to_string()))
            .or_default() += 1;
    }

    fn rows(&self) -> Tally {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The addresses of the service.
struct Addresses {
    plain: SocketAddr,
    encrypted: SocketAddr,
    ops: SocketAddr,
}

/// The profiles that were taken.
#[derive(Default)]
struct Taken {
    processor: AtomicU64,
    /// Graphs of the processor by signals, and by perf events.
    by_signals: AtomicU64,
    by_perf_events: AtomicU64,
    heap: AtomicU64,
    samples: AtomicU64,
}

fn duration() -> Duration {
    let time = std::env::var("VITALS_PROFILED_TIME").unwrap_or_else(|_| "10s".to_owned());
    humantime::parse_duration(&time).unwrap()
}

pub(crate) fn a_chaotic_service_loses_no_request() {
    let test = "profiles of a chaotic service";
    if !tools::has_feature(test, "tls", cfg!(feature = "tls")) {
        return;
    }
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    panic::set_hook(Box::new(|details| {
        if !details.to_string().contains(WANTED) {
            println!("{details}");
        }
    }));
    let time = duration();
    let cluster = Cluster::shared(&programs);
    let database = cluster.database();
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let certificate = authority.server();
    for (name, contents) in [
        ("cert.pem", &certificate.pem),
        ("key.pem", &certificate.key),
        (
            "web.yml",
            &"tls_server_config: {cert_file: cert.pem, key_file: key.pem}".to_owned(),
        ),
    ] {
        std::fs::write(directory.path().join(name), contents).unwrap();
    }
    let web_config = directory.path().join("web.yml");
    let sqlite = directory.path().join("chaos.db").display().to_string();
    let addresses = start(&sqlite, &database.url(), web_config);

    let (ledger, taken) = (Ledger::default(), Taken::default());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut crowd = Vec::new();
        for number in 0..ENCRYPTED + PLAIN {
            let encrypted = (number < ENCRYPTED).then(|| authority.pem());
            let (addresses, ledger, is_over) = (&addresses, &ledger, &is_over);
            crowd.push(scope.spawn(move || {
                runtime().block_on(request(number, addresses, encrypted, ledger, is_over));
            }));
        }
        for number in 0..LEAVING {
            let (addresses, ledger, is_over) = (&addresses, &ledger, &is_over);
            crowd.push(scope.spawn(move || leave(number, addresses.plain, ledger, is_over)));
        }
        for is_heap in [false, true] {
            let (addresses, taken, is_over) = (&addresses, &taken, &is_over);
            crowd.push(scope.spawn(move || {
                runtime().block_on(profile(addresses.ops, is_heap, taken, is_over));
            }));
        }
        let began = Instant::now();
        let mut told = 0;
        // A client that fails ends its thread.
        while began.elapsed() < time && !crowd.iter().any(ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(200));
            let minutes = began.elapsed().as_secs() / 60;
            if minutes > told {
                told = minutes;
                println!("chaos: {told} min, {}", summary(&ledger, &taken));
            }
        }
        is_over.store(true, Relaxed);
    });
    println!("chaos: {}", summary(&ledger, &taken));
    assert!(taken.heap.load(Relaxed) > 0, "no heap profile");
    runtime().block_on(counts_agree(addresses.ops, &ledger.rows()));
}

fn summary(ledger: &Ledger, taken: &Taken) -> String {
    let requests: u64 = ledger.rows().values().sum();
    let [processor, by_signals, by_perf_events, samples, heap] = [
        &taken.processor,
        &taken.by_signals,
        &taken.by_perf_events,
        &taken.samples,
        &taken.heap,
    ]
    .map(|count| count.load(Relaxed));
    format!(
        "{requests} requests, {processor} profiles of the processor (of the graphs {by_signals} by signals, {by_perf_events} by perf events; {samples} samples in the texts), {heap} of the heap"
    )
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn client(authority: Option<&str>) -> reqwest::Client {
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .timeout(BOUND)
        // What ends the encryption passes on bytes to a listener of HTTP/1.
        .http1_only()
        .pool_idle_timeout(Duration::from_secs(2));
    if let Some(authority) = authority {
        builder = builder
            .add_root_certificate(reqwest::Certificate::from_pem(authority.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

/// Sends requests, over TLS if there is an authority to trust.
async fn request(
    number: usize,
    addresses: &Addresses,
    authority: Option<&str>,
    ledger: &Ledger,
    is_over: &AtomicBool,
) {
    let url = match authority {
        Some(_) => format!("https://{}", addresses.encrypted),
        None => format!("http://{}", addresses.plain),
    };
    let client = client(authority);
    let mut dice = StdRng::seed_from_u64(number as u64);
    while !is_over.load(Relaxed) {
        let (path, endpoint, status) = REQUESTS[dice.random_range(0..REQUESTS.len())];
        let answer = client.get(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        answer.bytes().await.unwrap();
        ledger.record(endpoint, status);
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..=PAUSE))).await;
    }
}

/// Sends requests, and leaves before the answer.
fn leave(number: usize, address: SocketAddr, ledger: &Ledger, is_over: &AtomicBool) {
    let mut dice = StdRng::seed_from_u64(number as u64);
    while !is_over.load(Relaxed) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream
            .write_all(b"GET /slow HTTP/1.1\r\nHost: chaos\r\n\r\n")
            .unwrap();
        thread::sleep(Duration::from_millis(dice.random_range(0..=PAUSE)));
        stream.shutdown(Shutdown::Write).unwrap();
        // Until the server has seen it.
        drop(stream.read(&mut [0]));
        ledger.record("/slow", 499);
    }
}

/// Takes profiles back to back.
async fn profile(address: SocketAddr, is_heap: bool, taken: &Taken, is_over: &AtomicBool) {
    let client = client(None);
    let mut number = 0_usize;
    while !is_over.load(Relaxed) {
        number += 1;
        let format = ["folded", "pprof", "svg"][number % 3];
        let path = if is_heap {
            format!("heap?format={format}")
        } else {
            // By perf events and by signals, in turns.
            let hertz = [999, 99][number % 2];
            let seconds = PROFILE_TIME.as_secs();
            format!("cpu?seconds={seconds}&hz={hertz}&format={format}")
        };
        let url = format!("http://{address}/ops/profile/{path}");
        let began = Instant::now();
        let answer = client.get(url).send().await.unwrap();
        let status = answer.status().as_u16();
        if status == 429 {
            let wait = answer.headers()["retry-after"].to_str().unwrap();
            let wait = Duration::from_secs(wait.parse().unwrap());
            tokio::time::sleep(wait).await;
            continue;
        }
        let body = answer.bytes().await.unwrap();
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        assert!(!body.is_empty(), "{path}");
        if is_heap {
            taken.heap.fetch_add(1, Relaxed);
            continue;
        }
        taken.processor.fetch_add(1, Relaxed);
        let text = String::from_utf8_lossy(&body);
        for (method, count) in [
            ("samples by signals", &taken.by_signals),
            ("samples by perf events", &taken.by_perf_events),
        ] {
            if format == "svg" && text.contains(method) {
                count.fetch_add(1, Relaxed);
            }
        }
        if format == "folded" {
            let counts = text.lines().filter_map(|line| line.rsplit_once(' '));
            let counts = counts.map(|(_, count)| count.parse::<u64>().unwrap());
            let samples = counts.sum::<u64>();
            // A process that was suspended has little time left.
            let was_suspended = began.elapsed() > 4 * PROFILE_TIME;
            assert!(samples > 0 || was_suspended, "nothing was sampled");
            taken.samples.fetch_add(samples, Relaxed);
        }
    }
}

/// Waits until the counters agree with the records of all clients: requests, durations, panics and queries.
async fn counts_agree(ops: SocketAddr, recorded: &Tally) {
    let of = |endpoint: &str| -> u64 {
        let rows = recorded.iter().filter(|((of, _), _)| of == endpoint);
        rows.map(|(_, count)| count).sum()
    };
    let expected = [
        ("requests", Some(recorded.clone())),
        ("durations", Some(recorded.clone())),
    ];
    let of_requests = POOLS.map(|pool| of(&format!("/{pool}")) * STATEMENTS);
    let panics = of("/panic");
    let deadline = Instant::now() + BOUND;
    loop {
        let scrape = scrape(ops).await;
        let tally = |name: &str| -> Tally {
            let series = scrape.series(name).into_iter();
            let rows = series.map(|(labels, count)| {
                let row = (labels["endpoint"].clone(), labels["http_status"].clone());
                (row, whole(count))
            });
            rows.filter(|(_, count)| *count > 0).collect()
        };
        let counted = [
            ("requests", Some(tally("http_requests_total"))),
            (
                "durations",
                Some(tally("http_request_duration_seconds_count")),
            ),
        ];
        let queries_of = |labels| whole(scrape.sum("db_queries_total", labels));
        let of_postgres = queries_of(&[("pool", POOLS[1])]);
        // The first queries of the first pool are those of no pool by name: it was the only one.
        let counted_queries = [queries_of(&[]) - of_postgres, of_postgres];
        // Connections are still replaced.
        let prepared = PREPARED.each_ref().map(|count| count.load(Relaxed));
        let queries = [0, 1].map(|at: usize| of_requests[at] + prepared[at]);
        let counted_panics = whole(scrape.sum("http_request_panics_total", &[]));
        let agrees = counted == expected && counted_queries == queries && counted_panics == panics;
        if agrees {
            println!(
                "chaos: counts agree: {recorded:?}, {queries:?} queries of {POOLS:?}, of which {prepared:?} prepared connections, {panics} panics of handlers"
            );
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{counted:?} for {expected:?}, queries {counted_queries:?} for {queries:?}, panics {counted_panics} for {panics}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn scrape(ops: SocketAddr) -> Exposition {
    let url = format!("http://{ops}/metrics");
    let scrape = client(None).get(url).send().await.unwrap();
    Exposition::parse(&scrape.text().await.unwrap()).unwrap()
}

/// The text of the panics that are part of the chaos.
const WANTED: &str = "the chaos panics as it should";

/// Starts the service on a thread of its own.
fn start(sqlite: &str, postgres: &str, web_config: std::path::PathBuf) -> Addresses {
    let (sender, started) = mpsc::channel();
    let urls = [sqlite.to_owned(), postgres.to_owned()];
    thread::spawn(move || {
        System::new().block_on(async move {
            let ops = OpsSettings::everything().with_profiles();
            let vitals = Vitals::builder().ops(ops).build().unwrap();
            vitals.watch_panics();
            let waits = "PRAGMA busy_timeout = 600000";
            let sqlite = open::<SqliteConnection>(&vitals, 0, &urls[0], waits);
            let postgres = open::<PgConnection>(&vitals, 1, &urls[1], "SELECT 1");
            let raised = Arc::new(AtomicBool::new(false));
            flag::register(SIGUSR1, Arc::clone(&raised)).unwrap();
            let monitor = vitals.http();
            let service = HttpServer::new(move || {
                App::new()
                    .app_data(Data::new(sqlite.clone()))
                    .app_data(Data::new(postgres.clone()))
                    .app_data(Data::from(Arc::clone(&raised)))
                    .configure(routes)
                    .wrap(monitor.clone())
            });
            let mounted = vitals.ops();
            let ops = HttpServer::new(move || App::new().configure(mounted.clone()));
            // A suspended process must not close connections when it continues.
            let service = service
                .workers(2)
                .h1_allow_half_closed(false)
                .client_request_timeout(BOUND)
                .keep_alive(BOUND)
                .bind("127.0.0.1:0")
                .unwrap();
            let ops = ops
                .workers(1)
                .client_request_timeout(BOUND)
                .keep_alive(BOUND);
            let ops = ops.bind("127.0.0.1:0").unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addresses = Addresses {
                plain: service.addrs()[0],
                encrypted: listener.local_addr().unwrap(),
                ops: ops.addrs()[0],
            };
            actix_web::rt::spawn(encrypt(listener, web_config, addresses.plain));
            sender.send(addresses).unwrap();
            futures_util::future::try_join(service.run(), ops.run())
                .await
                .unwrap();
        });
    });
    started.recv_timeout(BOUND).unwrap()
}

/// Ends the encryption of each connection, and passes it on.
async fn encrypt(listener: TcpListener, web_config: std::path::PathBuf, to: SocketAddr) {
    let config = Reloading::open(WebConfigFile::new(web_config)).unwrap();
    let tls = config.current().tls().cloned();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let tls = tls.clone();
        actix_web::rt::spawn(async move {
            // The client may leave at any time.
            if let Ok(mut client) = ServerStream::accept(socket, tls).await {
                let mut service = AsyncStream::connect(to).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut client, &mut service).await);
            }
        });
    }
}

/// Runs a statement on each new connection, and counts it.
#[derive(Debug)]
struct Prepared {
    pool: usize,
    statement: &'static str,
}

impl<C: SimpleConnection + 'static> r2d2::CustomizeConnection<C, r2d2::Error> for Prepared {
    fn on_acquire(&self, connection: &mut C) -> Result<(), r2d2::Error> {
        PREPARED[self.pool].fetch_add(1, Relaxed);
        connection
            .batch_execute(self.statement)
            .map_err(r2d2::Error::QueryError)
    }
}

fn open<C>(vitals: &Vitals, pool: usize, url: &str, statement: &'static str) -> Pool<C>
where
    C: R2D2Connection + Explainable + SimpleConnection + Send + 'static,
{
    let builder = r2d2::Pool::builder()
        .max_size(3)
        .connection_timeout(BOUND)
        .max_lifetime(Some(CONNECTION_TIME))
        .connection_customizer(Box::new(Prepared { pool, statement }));
    let instrumented = vitals.instrument(builder).name(POOLS[pool]);
    let built = instrumented.build(ConnectionManager::<C>::new(url));
    let built = built.unwrap();
    let mut connection = built.get().unwrap();
    connection
        .batch_execute("CREATE TABLE visits (id INTEGER, name VARCHAR(99))")
        .unwrap();
    PREPARED[pool].fetch_add(1, Relaxed);
    drop(connection);
    built
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/async/{id}", web::get().to(run_async))
        .route("/blocking/{id}", web::get().to(run_blocking))
        .route("/sqlite", web::get().to(query::<SqliteConnection>))
        .route("/postgres", web::get().to(query::<PgConnection>))
        .route("/panic", web::get().to(run_panic))
        .route("/panic/blocking", web::get().to(run_blocking_panic))
        .route("/child", web::get().to(run_child))
        .route("/signal", web::get().to(run_signal))
        .route("/slow", web::get().to(std::future::pending::<HttpResponse>));
}

async fn run_async() -> HttpResponse {
    for _ in 0..4 {
        burn_in_async(Duration::from_micros(500));
        tokio::task::yield_now().await;
    }
    HttpResponse::Ok().finish()
}

async fn run_blocking() -> actix_web::Result<HttpResponse> {
    block(|| burn_in_a_blocking_thread(Duration::from_millis(2))).await?;
    Ok(HttpResponse::Ok().finish())
}

async fn query<C>(pool: Data<Pool<C>>) -> actix_web::Result<HttpResponse>
where
    C: R2D2Connection + 'static,
    for<'a> diesel::query_builder::SqlQuery: diesel::query_dsl::methods::ExecuteDsl<C>,
{
    pool.run(|connection| -> QueryResult<()> {
        sql_query("INSERT INTO visits (id, name) VALUES (7, 'visitor')").execute(connection)?;
        sql_query("SELECT count(*) FROM visits a, visits b WHERE a.id = b.id AND a.name < 'w'")
            .execute(connection)?;
        sql_query("DELETE FROM visits").execute(connection)?;
        Ok(())
    })
    .await
    .map_err(|error| ErrorServiceUnavailable(error.to_string()))?;
    Ok(HttpResponse::Ok().finish())
}

async fn run_panic() -> HttpResponse {
    panic!("{WANTED}")
}

async fn run_blocking_panic() -> actix_web::Result<HttpResponse> {
    block(|| panic!("{WANTED}")).await?;
    Ok(HttpResponse::Ok().finish())
}

/// Starts a child process, in turns by `posix_spawn`, and by `fork` for the change of its user.
async fn run_child() -> actix_web::Result<HttpResponse> {
    static CHILDREN: AtomicU64 = AtomicU64::new(0);

    let status = block(|| {
        let mut child = Command::new("true");
        if CHILDREN.fetch_add(1, Relaxed).is_multiple_of(2) {
            child.uid(rustix::process::getuid().as_raw());
        }
        child.status()
    });
    assert!(status.await??.success());
    Ok(HttpResponse::Ok().finish())
}

async fn run_signal(raised: Data<AtomicBool>) -> HttpResponse {
    raise(SIGUSR1).unwrap();
    assert!(raised.load(Relaxed));
    HttpResponse::Ok().finish()
}
