//! The common parts of the tests' database servers: a directory with a keeper, a port, and the wait for the first connection.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The password of the tests' user. No output may contain it.
pub(crate) const PASSWORD: &str = "pl4nted-p4ssword";

/// How long a server may take to accept a connection on a busy machine.
pub(crate) const START_BOUND: Duration = Duration::from_secs(120);

/// Waits until its input ends, which also happens if this process is killed. Then it stops the server, waits up to 30
/// seconds until it has ended, and removes the directory.
const SCRIPT: &str = r#"
read -r _
pid=$(head -n 1 "$1/$2" 2>/dev/null)
if [ -n "$pid" ]; then
    kill "-$3" "$pid" 2>/dev/null
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 600 ]; do sleep 0.05; tries=$((tries + 1)); done
fi
rm -rf "$1"
"#;

/// The directory of a server, and the process that removes both after the tests.
#[derive(Debug)]
pub(crate) struct Keeper {
    directory: PathBuf,
    /// Ends when its input is closed. It outlives this process, so nothing waits for it.
    _script: Child,
}

impl Keeper {
    /// Makes a directory. `pid_file` is the path of the server's process id in it, `signal` what stops the server.
    pub(crate) fn start(pid_file: &str, signal: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory").keep();
        let script = Command::new("sh")
            .args(["-c", SCRIPT, "keeper"])
            .arg(&directory)
            .args([pid_file, signal])
            // Ctrl-C ends the tests and must not end this process.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Self {
            directory,
            _script: script,
        }
    }

    /// The directory of the server.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Everything in the file `log` of the directory.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Connects until the server accepts; panics with its log after [`START_BOUND`].
    pub(crate) fn until_accepted<T, E: Display>(&self, connect: impl Fn() -> Result<T, E>) -> T {
        let deadline = Instant::now() + START_BOUND;
        loop {
            match connect() {
                Ok(connection) => return connection,
                Err(error) => assert!(
                    Instant::now() < deadline,
                    "the server does not start: {error}\n{}",
                    self.log()
                ),
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A port that was free a moment ago, and that nothing else in this process was given. It is below those that Linux gives to
/// connections, any of which could take it before the server does.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = rand::random_range(20_000..32_000_u16);
        let is_free = TcpListener::bind(("127.0.0.1", port)).is_ok();
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if is_free && given.insert(port) {
            return port;
        }
    }
}

/// Whether the tests run as root. The servers refuse that.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
