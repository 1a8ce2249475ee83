//! Starts the real binary for one test, with a port, a directory and a database of its own. Dropping it ends all three.
//!
//! Contains its HTTP client too, and no expectation about the answers.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

use super::exposition::Exposition;
use super::wait;

/// How long an unoptimised build may take to start on a busy machine.
const START_BOUND: Duration = Duration::from_secs(60);

/// How long a line of the log may take.
const LOG_BOUND: Duration = Duration::from_secs(30);

/// The header in which Prometheus says how long it waits for a scrape, and how long the tests do: a busy machine may need it.
pub(crate) const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
pub(crate) const SCRAPE_SECONDS: &str = "30";

/// The binary under test in this directory, with a clean environment and with its output captured.
pub(crate) fn command(directory: &Path) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_actix-vitals")), directory)
}

fn command_of(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Settings in the developer's shell must not change a test.
    for (variable, _) in std::env::vars_os() {
        let named = variable.to_string_lossy();
        let is_setting = ["VITALS_", "OTEL_"]
            .iter()
            .any(|prefix| named.starts_with(prefix));
        if is_setting || named == "DATABASE_URL" {
            command.env_remove(&variable);
        }
    }
    command
}

/// Runs the binary to its end with these arguments. Panics if it still runs after [`START_BOUND`].
pub(crate) fn run_to_end(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let directory = TempDir::new().expect("a temporary directory");
    let mut command = command(directory.path());
    command.args(arguments).envs(environment.iter().copied());
    to_end(command).unwrap_or_else(|| panic!("{arguments:?} was accepted: the server runs"))
}

/// Runs a [`command`] to its end. Kills it and returns `None` if it still runs after [`START_BOUND`].
pub(crate) fn to_end(mut command: Command) -> Option<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let deadline = Instant::now() + START_BOUND;
    while child
        .try_wait()
        .expect("a child can be waited for")
        .is_none()
    {
        if Instant::now() > deadline {
            child.kill().expect("a running child can be killed");
            child.wait().expect("a killed child can be waited for");
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(child.wait_with_output().expect("the output can be read"))
}

/// The database of a server. It is removed when the last reference is dropped.
pub(crate) trait Data: std::fmt::Debug + Send + Sync {
    /// The value of `--database-url`.
    fn url(&self) -> String;

    /// Runs a statement on the database, without the server.
    fn execute(&self, sql: &str);
}

/// An SQLite database in a directory.
#[derive(Debug)]
struct SqliteData(Arc<TempDir>);

impl SqliteData {
    fn file(&self) -> PathBuf {
        self.0.path().join("vitals.db")
    }
}

impl Data for SqliteData {
    fn url(&self) -> String {
        format!("sqlite://{}", self.file().display())
    }

    fn execute(&self, sql: &str) {
        use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection};

        let mut connection = SqliteConnection::establish(&self.file().display().to_string())
            .expect("the database can be opened");
        diesel::sql_query(sql)
            .execute(&mut connection)
            .expect("the statement succeeds");
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    url: String,
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    directory: Arc<TempDir>,
    data: Arc<dyn Data>,
    client: Client,
}

impl Server {
    /// Starts a server with a fresh database and the default settings.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with a fresh database and these flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        Self::start_in(Arc::new(directory), flags)
    }

    /// Starts a server with a fresh database, the default settings and these variables in its environment.
    pub(crate) fn start_with_variables(environment: &[(&str, String)]) -> Self {
        let directory = Arc::new(TempDir::new().expect("a temporary directory"));
        let data = Arc::new(SqliteData(Arc::clone(&directory)));
        Self::start_among(directory, data, &[], environment)
    }

    /// Starts a server on the database in this directory, or on a fresh one.
    pub(crate) fn start_in(directory: Arc<TempDir>, flags: &[&str]) -> Self {
        let data = Arc::new(SqliteData(Arc::clone(&directory)));
        Self::start_at(directory, data, flags)
    }

    /// Starts a server on this database.
    pub(crate) fn start_on(data: Arc<dyn Data>, flags: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        Self::start_at(Arc::new(directory), data, flags)
    }

    fn start_at(directory: Arc<TempDir>, data: Arc<dyn Data>, flags: &[&str]) -> Self {
        Self::start_among(directory, data, flags, &[])
    }

    fn start_among(
        directory: Arc<TempDir>,
        data: Arc<dyn Data>,
        flags: &[&str],
        environment: &[(&str, String)],
    ) -> Self {
        let mut command = command(directory.path());
        command
            .args(["--listen", "127.0.0.1:0"])
            // Unlike an argument, a variable is not visible to other users of the machine.
            .env("DATABASE_URL", data.url())
            .envs(environment.iter().cloned())
            .args(flags);
        Self::run(command, directory, data)
    }

    /// Starts a server with a fresh database in a mount namespace where `file` is mounted over `target`.
    pub(crate) fn start_behind(unshare: &Path, file: &Path, target: &str) -> Self {
        let directory = Arc::new(TempDir::new().expect("a temporary directory"));
        let data = Arc::new(SqliteData(Arc::clone(&directory)));
        let mut command = command_of(unshare, directory.path());
        command
            .args(["--mount", "sh", "-c"])
            .arg("mount --bind \"$1\" \"$2\" && exec \"$3\" --listen 127.0.0.1:0")
            .args([Path::new("sh"), file, Path::new(target)])
            .arg(env!("CARGO_BIN_EXE_actix-vitals"))
            .env("DATABASE_URL", data.url());
        Self::run(command, directory, data)
    }

    /// Starts a copy of the binary with a fresh database and these flags.
    pub(crate) fn start_copy(program: &Path, flags: &[&str]) -> Self {
        let directory = Arc::new(TempDir::new().expect("a temporary directory"));
        let data = Arc::new(SqliteData(Arc::clone(&directory)));
        let mut command = command_of(program, directory.path());
        command
            .args(["--listen", "127.0.0.1:0"])
            .env("DATABASE_URL", data.url())
            .args(flags);
        Self::run(command, directory, data)
    }

    /// Starts another program that prints its address like ours does. Its output must be piped.
    pub(crate) fn of(command: Command, data: Arc<dyn Data>) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        Self::run(command, Arc::new(directory), data)
    }

    fn run(mut command: Command, directory: Arc<TempDir>, data: Arc<dyn Data>) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        collect(
            child.stderr.take().expect("stderr is piped"),
            Arc::clone(&stderr),
        );
        let lines = lines_of(child.stdout.take().expect("stdout is piped"));
        let mut server = Self {
            child,
            url: String::new(),
            lines,
            stderr,
            directory,
            data,
            client: Client::builder()
                // Shorter than the idle timeout of any server here, or a request may use a connection that is being closed.
                .pool_idle_timeout(std::time::Duration::from_secs(2))
                .no_proxy()
                .timeout(Duration::from_secs(30))
                .build()
                .expect("an HTTP client"),
        };
        server.url = server.next_address();
        server
    }

    /// The next address that the server prints. It prints one for each listener.
    pub(crate) fn next_address(&mut self) -> String {
        let deadline = Instant::now() + START_BOUND;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!(
                    "the server did not print its address; its stderr:\n{}",
                    self.stderr()
                );
            };
            if let Some((_, address)) = line.split_once("listening on ") {
                return address.trim().to_owned();
            }
        }
    }

    /// The URL of a path on this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// `host:port` of this server, for raw sockets and for the real Prometheus.
    pub(crate) fn authority(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The directory of the database. Pass it to [`Server::start_in`] to restart on the same data.
    pub(crate) fn directory(&self) -> Arc<TempDir> {
        Arc::clone(&self.directory)
    }

    /// The database. Pass it to [`Server::start_on`] to restart on the same data.
    pub(crate) fn data(&self) -> Arc<dyn Data> {
        Arc::clone(&self.data)
    }

    /// The file of an SQLite database.
    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join("vitals.db")
    }

    /// Everything that the server has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("no reader panicked").clone()
    }

    /// The lines that the server has written to stderr, once they contain a text so many times. A thread reads them, and may
    /// be late.
    pub(crate) async fn log_with(&self, text: &str, times: usize) -> String {
        let awaited = format!("{times} x {text:?} in the log");
        wait::until(&awaited, LOG_BOUND, async || {
            let mut log = self.stderr();
            log.truncate(log.rfind('\n').map_or(0, |end| end + 1));
            if log.matches(text).count() >= times {
                Ok(log)
            } else {
                Err(log)
            }
        })
        .await
    }

    /// The process id of the server.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the server a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status()
            .expect("a shell");
        assert!(sent.success(), "the signal was not sent");
    }

    /// Stops the server with SIGTERM, as a supervisor does, and returns its exit code.
    pub(crate) fn stop(self) -> Option<i32> {
        self.signal("TERM");
        self.ended()
    }

    /// Waits until the server has ended, and returns its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(45);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "the server does not stop: {}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the server with SIGKILL, as a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server can be waited for");
    }

    /// A request that the caller completes and sends.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// `GET` of a path.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// A request with a JSON body.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(method, path).json(body)).await
    }

    /// `DELETE` of a path.
    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    /// Creates an item and returns its id.
    pub(crate) async fn create(&self, name: &str) -> i64 {
        let body = serde_json::json!({"name": name, "email": "ada@example.com", "message": null});
        let answer = self.send(Method::POST, "/data", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_i64().expect("an integer id")
    }

    /// The current scrape in the text format.
    pub(crate) async fn scrape(&self) -> Exposition {
        let scrape = self.request(Method::GET, "/metrics");
        let answer = Answer::of(scrape.header(SCRAPE_TIMEOUT, SCRAPE_SECONDS)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        Exposition::parse(&answer.text).expect("a well-formed text exposition")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the server has ended.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            println!("--- stderr of the server\n{}---", self.stderr());
        }
    }
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body; invalid UTF-8 is replaced.
    pub(crate) text: String,
}

impl Answer {
    /// Sends the request and reads the response to its end.
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("the server answers");
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.expect("the body arrives whole"),
        }
    }

    /// A header's value, or the empty string.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("a readable header"))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| {
            panic!(
                "{} is not JSON: {error}: {}",
                self.header(CONTENT_TYPE.as_str()),
                self.text
            )
        })
    }
}

/// Passes on each line of the stream. Reads to the end, so that the writer never blocks.
fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Fails if the test reads no more lines.
            let _unread = sender.send(line);
        }
    });
    receiver
}

/// Appends everything from the stream to `text`.
fn collect(mut stream: impl std::io::Read + Send + 'static, text: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            let Ok(mut text) = text.lock() else { return };
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    });
}
