//! The messages that systemd receives from the service, on a socket of the test.
//!
//! `deploy` tests that systemd accepts the unit.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actix_vitals::Vitals;
use actix_vitals_service::supervisor::supervise;
use actix_web::{App, HttpResponse, HttpServer, web};
use tempfile::TempDir;

use crate::support::server::Server;

/// How long anything may take that is waited for.
const BOUND: Duration = Duration::from_secs(30);

/// The watchdog's time: pings are due four times within it.
const WATCHDOG: Duration = Duration::from_secs(4);

/// A supervisor's end of the socket.
struct Supervisor {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Supervisor {
    fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        Self { socket, directory }
    }

    /// What systemd would put into the environment.
    fn environment(&self) -> [(&'static str, String); 2] {
        self.environment_with(WATCHDOG)
    }

    fn environment_with(&self, watchdog: Duration) -> [(&'static str, String); 2] {
        [
            ("NOTIFY_SOCKET", self.path().display().to_string()),
            ("WATCHDOG_USEC", watchdog.as_micros().to_string()),
        ]
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    /// The next message that comes within this time.
    fn hears_within(&self, time: Duration) -> Option<String> {
        let mut message = [0; 256];
        self.socket
            .set_read_timeout(Some(time))
            .expect("a time that is not zero");
        let length = self.socket.recv(&mut message).ok()?;
        let text = std::str::from_utf8(&message[..length]).expect("text");
        Some(text.trim_end().to_owned())
    }

    fn hears(&self) -> String {
        self.hears_within(BOUND).expect("a message")
    }

    /// Waits until nothing has been heard for the whole time of the watchdog, as systemd would.
    fn watchdog_bites(&self) {
        let deadline = Instant::now() + BOUND;
        while let Some(message) = self.hears_within(WATCHDOG) {
            assert_eq!(message, "WATCHDOG=1");
            assert!(Instant::now() < deadline, "it still receives keep-alives");
        }
    }
}

#[tokio::test]
async fn systemd_hears_that_the_service_is_ready_alive_and_stopping() {
    let supervisor = Supervisor::new();
    let server = Server::start_with_variables(&supervisor.environment());
    assert_eq!(supervisor.hears(), "READY=1");
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text);
    for _ in 0..5 {
        assert_eq!(supervisor.hears(), "WATCHDOG=1");
    }
    let stopped = std::thread::spawn(move || server.stop());
    // The shutdown timeout that is set by default, the longest last push, and a little more.
    while supervisor.hears() != "STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000" {}
    assert_eq!(stopped.join().expect("the server stops"), Some(0));
}

#[tokio::test]
async fn without_a_watchdog_there_are_no_pings_and_without_a_listener_there_is_no_harm() {
    let supervisor = Supervisor::new();
    let socket = supervisor.environment()[0].clone();
    let server = Server::start_with_variables(&[socket]);
    assert_eq!(supervisor.hears(), "READY=1");
    assert_eq!(supervisor.hears_within(WATCHDOG), None);
    drop(server);

    let gone = [("NOTIFY_SOCKET", "/nowhere/at/all".to_owned())];
    let server = Server::start_with_variables(&gone);
    assert_eq!(server.get("/readyz").await.status, 200);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn after_the_process_was_stopped_the_watchdog_is_pinged_at_once() {
    // Pings come every 10 s, and a loop is stuck after 20 s.
    let watchdog = Duration::from_secs(40);
    let supervisor = Supervisor::new();
    let server = Server::start_with_variables(&supervisor.environment_with(watchdog));
    assert_eq!(supervisor.hears(), "READY=1");
    assert_eq!(supervisor.hears(), "WATCHDOG=1");
    server.signal("STOP");
    std::thread::sleep(watchdog * 6 / 10);
    let process = std::fs::read_to_string(format!("/proc/{}/stat", server.pid()));
    let process = process.expect("the process is there");
    assert!(process.contains(") T "), "something else continued it");
    while supervisor.hears_within(Duration::from_millis(10)).is_some() {}
    server.signal("CONT");
    let ping = supervisor.hears_within(watchdog / 8);
    assert_eq!(ping.as_deref(), Some("WATCHDOG=1"));
    let log = server.stderr();
    assert!(!log.contains("does not turn"), "{log}");
    assert_eq!(server.stop(), Some(0));
}

/// Kills what it holds when dropped.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn one_event_loop_that_is_stuck_is_enough_for_the_watchdog_to_bite() {
    let supervisor = Supervisor::new();
    let this = std::env::current_exe().expect("this program");
    let child = Command::new(this)
        .args([
            "--exact",
            "supervisor::an_app_whose_loops_get_stuck",
            "--ignored",
        ])
        .envs(supervisor.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the app starts");
    let _child = Guard(child);
    assert_eq!(supervisor.hears(), "READY=1");
    for _ in 0..3 {
        assert_eq!(supervisor.hears(), "WATCHDOG=1");
    }
    supervisor.watchdog_bites();
}

/// Not a test: the app of the one above, for a process of its own, as its environment is. One of its two workers is
/// stuck after a while, with a request that blocks it; the other one, and this thread, go on.
#[ignore = "it is the app of another test, and ends with it"]
#[actix_web::test]
async fn an_app_whose_loops_get_stuck() {
    let vitals = Vitals::builder().build().expect("the metrics");
    let recorder = vitals.clone();
    let app = move || {
        let block = web::get().to(async || {
            std::thread::sleep(BOUND);
            HttpResponse::Ok().finish()
        });
        App::new().route("/", block).wrap(recorder.http())
    };
    let server = HttpServer::new(app).workers(2).bind("127.0.0.1:0");
    let server = server.expect("a port");
    let url = format!("http://{}/", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    actix_web::rt::spawn(supervise(vitals));
    actix_web::rt::time::sleep(WATCHDOG * 2).await;
    let _never = reqwest::get(url).await;
}
