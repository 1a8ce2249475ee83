//! A service whose workers can be blocked in several ways, with its ops endpoints on a listener of their own, and a client.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use actix_vitals::{Builder, Vitals, database::Pool, ops::OpsSettings};
use actix_web::{
    App, HttpResponse, HttpServer,
    body::{BodySize, MessageBody},
    dev::{ServerHandle, Service as _},
    rt::System,
    web::{self, Bytes},
};
use diesel::{
    RunQueryDsl as _, SqliteConnection,
    r2d2::{self, ConnectionManager},
    sql_query,
};
use serde_json::Value;

use crate::BOUND;

/// Threads of the service.
pub(crate) const WORKERS: usize = 2;

/// Ends what blocks, before its time. The tests take turns.
pub(crate) static IS_NOTICED: AtomicBool = AtomicBool::new(false);

/// Blocks the thread for this time, or until [`IS_NOTICED`].
fn block_for(time: Duration) {
    let begun = Instant::now();
    while let Some(left) = time.checked_sub(begun.elapsed())
        && !IS_NOTICED.load(Relaxed)
    {
        thread::sleep(left.min(Duration::from_millis(5)));
    }
}

/// A body that keeps the event loop busy when it is polled.
struct HeavyBody(Option<Duration>);

impl MessageBody for HeavyBody {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, Self::Error>>> {
        let chunk = self.0.take().map(|time| {
            block_for(time);
            Ok(Bytes::from_static(b"heavy"))
        });
        std::task::Poll::Ready(chunk)
    }
}

/// A service with two workers that can be blocked, and its ops endpoints on a listener of their own.
pub(crate) struct Blockable {
    pub(crate) service: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) lock: Arc<Mutex<()>>,
    handles: Vec<ServerHandle>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Blockable {
    pub(crate) fn start() -> Self {
        Self::start_with(Vitals::builder(), WORKERS)
    }

    pub(crate) fn start_with(vitals: Builder, workers: usize) -> Self {
        let lock = Arc::new(Mutex::new(()));
        let (send, receive) = mpsc::channel();
        let shared = Arc::clone(&lock);
        let serve = move || System::new().block_on(serve(vitals, workers, shared, &send));
        let thread = thread::spawn(serve);
        let (service, ops, handles) = receive.recv_timeout(BOUND).expect("two servers");
        Self {
            service,
            ops,
            lock,
            handles,
            thread: Some(thread),
        }
    }

    /// Asks an ops endpoint, and returns the whole answer.
    pub(crate) fn ask(&self, path: &str) -> String {
        let answer = get(self.ops, path, "");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        answer
    }

    pub(crate) fn requests(&self) -> Value {
        let answer = self.ask("/ops/requests");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).expect("JSON")
    }

    /// Returns what is known of the only pool.
    pub(crate) fn pool(&self) -> Value {
        let answer = self.ask("/ops/pool");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let listing: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(listing["pools"].as_array().unwrap().len(), 1, "{listing}");
        listing["pools"][0].clone()
    }

    /// Waits until the listed requests fulfil a condition.
    pub(crate) fn wait_for(&self, condition: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + BOUND;
        loop {
            let listing = self.requests();
            let requests = listing["requests"].as_array().unwrap().clone();
            if condition(&requests) {
                return requests;
            }
            assert!(Instant::now() < deadline, "{listing}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Blockable {
    fn drop(&mut self) {
        for handle in &self.handles {
            drop(handle.stop(false));
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}

type Addresses = (SocketAddr, SocketAddr, Vec<ServerHandle>);

async fn serve(
    vitals: Builder,
    workers: usize,
    lock: Arc<Mutex<()>>,
    started: &mpsc::Sender<Addresses>,
) {
    let ops = OpsSettings::everything();
    let vitals = vitals.ops(ops).build().expect("settings that build");
    let builder = r2d2::Pool::builder().max_size(1);
    let monitor = vitals.http();
    let pool = vitals
        .instrument(builder.connection_timeout(BOUND))
        .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
        .expect("a pool");
    let service = HttpServer::new(move || {
        let lock = Arc::clone(&lock);
        let held = web::Data::from(Arc::clone(&lock));
        App::new()
            .app_data(web::Data::new(pool.clone()))
            .app_data(held)
            .route("/hold/{secret}", web::get().to(hold))
            .route("/query", web::get().to(query))
            .route("/block/{millis}", web::get().to(block))
            .route("/sleep/{millis}", web::get().to(sleep))
            .route("/spin/{millis}", web::get().to(spin))
            .route("/contended/{millis}", web::get().to(contended))
            .route("/fast/{id}", web::get().to(fast))
            .route("/rows/{id}", web::get().to(rows))
            .route(
                "/body/{millis}",
                web::get().to(|time: web::Path<u64>| async move {
                    let time = Duration::from_millis(*time);
                    HttpResponse::Ok().body(HeavyBody(Some(time)))
                }),
            )
            .route(
                "/lock",
                web::get().to(move || {
                    let lock = Arc::clone(&lock);
                    async move {
                        // The first poll returns, and the second one is stuck.
                        actix_web::rt::task::yield_now().await;
                        drop(lock.lock());
                        HttpResponse::Ok().finish()
                    }
                }),
            )
            .service(
                web::resource("/middleware/{millis}")
                    .wrap_fn(|request, next| {
                        let time = request.match_info().query("millis").parse();
                        block_for(Duration::from_millis(time.expect("milliseconds")));
                        next.call(request)
                    })
                    .to(HttpResponse::Ok),
            )
            .wrap(monitor.clone())
    })
    .workers(workers)
    // A request behind a stall may have to wait for long.
    .client_request_timeout(Duration::ZERO)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let mounted = vitals.ops();
    let ops = HttpServer::new(move || App::new().configure(mounted.clone()))
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
    let addresses = [service.addrs()[0], ops.addrs()[0]];
    let (service, ops) = (service.run(), ops.run());
    let handles = vec![service.handle(), ops.handle()];
    started
        .send((addresses[0], addresses[1], handles))
        .expect("a receiver");
    let (service, ops) = futures_util::future::join(service, ops).await;
    service.and(ops).expect("both servers end");
}

/// Blocks the thread within an async handler.
async fn sleep(time: web::Path<u64>) -> HttpResponse {
    block_for(Duration::from_millis(*time));
    HttpResponse::Ok().finish()
}

/// Computes for a long time within an async handler. The time without a processor does not count.
async fn spin(time: web::Path<u64>) -> HttpResponse {
    let (mut last, mut left) = (Instant::now(), Duration::from_millis(*time));
    while left > Duration::ZERO && !IS_NOTICED.load(Relaxed) {
        std::hint::spin_loop();
        let now = Instant::now();
        let step = now.duration_since(std::mem::replace(&mut last, now));
        if step < Duration::from_millis(1) {
            left = left.saturating_sub(step);
        }
    }
    HttpResponse::Ok().finish()
}

/// Waits for a lock that another thread holds for this long.
async fn contended(time: web::Path<u64>) -> HttpResponse {
    let (lock, time) = (Arc::new(Mutex::new(())), Duration::from_millis(*time));
    let (send, receive) = mpsc::channel();
    let other = Arc::clone(&lock);
    thread::spawn(move || {
        let _held = other.lock();
        send.send(()).expect("a receiver");
        thread::sleep(time);
    });
    receive.recv().expect("a holder");
    drop(lock.lock());
    HttpResponse::Ok().finish()
}

/// Answers at once.
async fn fast(id: web::Path<u64>) -> HttpResponse {
    HttpResponse::Ok().body(id.to_string())
}

/// Runs a short query on another thread.
async fn rows(pool: web::Data<Pool<SqliteConnection>>) -> HttpResponse {
    let ran = pool.run(|connection| sql_query("SELECT 1 WHERE 1 = 1").execute(connection));
    ran.await.expect("a query");
    HttpResponse::Ok().finish()
}

/// Runs a query that takes some seconds.
async fn query(pool: web::Data<Pool<SqliteConnection>>) -> HttpResponse {
    let ran = pool.run(|connection| {
        sql_query(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 3000000) \
             SELECT count(*) FROM numbers WHERE n <> 'hunter2'",
        )
        .execute(connection)
    });
    ran.await.expect("a query");
    HttpResponse::Ok().finish()
}

/// Takes a connection on the event loop, and waits for the lock with it.
async fn hold(pool: web::Data<Pool<SqliteConnection>>, lock: web::Data<Mutex<()>>) -> HttpResponse {
    let connection = pool.get().expect("a connection");
    drop(lock.lock());
    drop(connection);
    HttpResponse::Ok().finish()
}

/// Blocks a thread that may be blocked.
async fn block(time: web::Path<u64>) -> HttpResponse {
    let time = Duration::from_millis(*time);
    actix_vitals::block(move || block_for(time))
        .await
        .expect("an end");
    HttpResponse::Ok().finish()
}

/// Requests a path on a new connection, and returns the whole answer.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(BOUND)).unwrap();
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    answer
}
