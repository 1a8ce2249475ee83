//! A service over a pool, in this process, with the ops endpoints on a listener of their own. Its requests last until their
//! last byte is sent.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use actix_vitals::Vitals;
use actix_web::dev::ServerHandle;
use actix_web::rt::System;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use serde_json::Value;

/// What no line of the log and no answer may contain.
pub(crate) const SECRET: &str = "hunter2";

/// A running service.
#[derive(Debug)]
pub(crate) struct PooledService {
    api: SocketAddr,
    ops: SocketAddr,
    handles: Vec<ServerHandle>,
    /// The longest wait for an answer and for a condition.
    bound: Duration,
}

impl PooledService {
    /// Starts a service on a thread of its own. `build` returns its monitoring and its routes.
    pub(crate) fn start<R>(
        bound: Duration,
        build: impl AsyncFnOnce() -> (Vitals, R) + Send + 'static,
    ) -> Self
    where
        R: Fn(&mut ServiceConfig) + Clone + Send + 'static,
    {
        let (started, receive) = mpsc::channel();
        thread::spawn(move || {
            System::new().block_on(async move {
                let (vitals, routes) = build().await;
                serve(&vitals, routes, bound, started).await;
            });
        });
        receive.recv_timeout(bound).expect("two servers")
    }

    /// Sends a request with secrets and these headers, each with its line end, but without the last byte of its body.
    pub(crate) fn begin(&self, path: &str, headers: &str) -> TcpStream {
        let mut connection = self.connect(self.api);
        let length = SECRET.len() + 1;
        write!(
            connection,
            "POST {path}/{SECRET}?token={SECRET} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\
             authorization: Bearer {SECRET}\r\nContent-Length: {length}\r\n\r\n{SECRET}"
        )
        .unwrap();
        connection
    }

    /// What `GET /ops/pool` says about the only pool.
    pub(crate) fn pool(&self) -> Value {
        let mut connection = self.connect(self.ops);
        write!(
            connection,
            "GET /ops/pool HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let answer = read(connection);
        assert!(!answer.contains(SECRET), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let listing: Value = serde_json::from_str(body).unwrap();
        listing["pools"][0].clone()
    }

    /// Waits until the pool fulfils a condition.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + self.bound;
        loop {
            let pool = self.pool();
            if condition(&pool) {
                return pool;
            }
            assert!(Instant::now() < deadline, "never {what}: {pool:#}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn stop(&self) {
        for handle in &self.handles {
            drop(handle.stop(false));
        }
    }

    fn connect(&self, address: SocketAddr) -> TcpStream {
        let connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(self.bound)).unwrap();
        connection
    }
}

/// Sends the last byte of a request, and reads the answer.
pub(crate) fn finish(mut connection: TcpStream) -> String {
    connection.write_all(b"!").unwrap();
    read(connection)
}

fn read(mut connection: TcpStream) -> String {
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

async fn serve<R>(vitals: &Vitals, routes: R, bound: Duration, started: mpsc::Sender<PooledService>)
where
    R: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let monitor = vitals.http();
    let service =
        HttpServer::new(move || App::new().configure(routes.clone()).wrap(monitor.clone()));
    let mounted = vitals.ops();
    let ops = HttpServer::new(move || App::new().configure(mounted.clone()));
    let service = service.workers(2).disable_signals();
    let service = service.bind("127.0.0.1:0").unwrap();
    let ops = ops.workers(1).disable_signals();
    let ops = ops.bind("127.0.0.1:0").unwrap();
    let addresses = [service.addrs()[0], ops.addrs()[0]];
    let (service, ops) = (service.run(), ops.run());
    let running = PooledService {
        api: addresses[0],
        ops: addresses[1],
        handles: vec![service.handle(), ops.handle()],
        bound,
    };
    started.send(running).unwrap();
    let (service, ops) = futures_util::future::join(service, ops).await;
    service.and(ops).unwrap();
}
