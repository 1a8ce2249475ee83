//! A real MariaDB with a directory, a port and a password of its own. It is stopped and removed when dropped, or when this
//! process ends, however it ends. No client library is needed to start it.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long MariaDB may take to start on a busy machine.
const START_BOUND: Duration = Duration::from_secs(120);

const PASSWORD: &str = "pl4nted-p4ssword";

/// Stops the server and removes its directory as soon as its input ends.
const KEEPER: &str = r#"
read -r _
pid=$(cat "$1/data/pid" 2>/dev/null) && kill -KILL "$pid" 2>/dev/null
rm -rf "$1"
"#;

/// How many databases the server has from the start.
const DATABASES: u32 = 64;

/// A running server.
#[derive(Debug)]
pub(crate) struct Mariadb {
    directory: PathBuf,
    port: u16,
    server: Child,
    /// How many databases were given out.
    given: AtomicU32,
    /// Waits for the end of its input. It outlives this process, so nothing waits for it.
    _keeper: Child,
}

impl Mariadb {
    /// Starts the server, and waits until it answers.
    pub(crate) fn start([program, install]: &[PathBuf; 2]) -> Self {
        let directory = TempDir::new().expect("a temporary directory").keep();
        // MariaDB runs as another user than root, and needs access to its directory.
        std::fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("our directory");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&directory)
            // Ctrl-C stops the tests; the keeper must outlive them.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let data = directory.join("data");
        std::fs::create_dir(&data).expect("a directory in ours");
        let output = command(install, &data)
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .output()
            .expect("mariadb-install-db starts");
        assert!(
            output.status.success(),
            "mariadb-install-db: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let setup = directory.join("setup.sql");
        let mut sql = format!(
            "CREATE USER tester@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO tester@'%';\n"
        );
        for number in 0..DATABASES {
            let _ = writeln!(sql, "CREATE DATABASE test_{number};");
        }
        std::fs::write(&setup, sql).expect("a file in our directory");
        let port = free_port();
        let log = std::fs::File::create(directory.join("log")).expect("a file in our directory");
        let option = |name: &str, file: &str| format!("--{name}={}", data.join(file).display());
        let server = command(program, &data)
            .arg(format!("--port={port}"))
            .arg(format!("--init-file={}", setup.display()))
            .arg(option("socket", "socket"))
            .arg(option("pid-file", "pid"))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve"])
            .args([
                "--innodb-buffer-pool-size=16M",
                "--innodb-flush-log-at-trx-commit=0",
            ])
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("mariadbd starts");
        let started = Self {
            directory,
            port,
            server,
            given: AtomicU32::new(0),
            _keeper: keeper,
        };
        let deadline = Instant::now() + START_BOUND;
        while let Err(error) = started.greeting() {
            let log = std::fs::read_to_string(started.directory.join("log"));
            assert!(
                Instant::now() < deadline,
                "MariaDB does not start: {error}\n{}",
                log.unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        started
    }

    /// Reads the first byte that the server sends to a client.
    fn greeting(&self) -> std::io::Result<()> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        connection.read_exact(&mut [0])
    }

    /// The URL of an empty database that no other caller gets.
    pub(crate) fn create_database(&self) -> String {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        assert!(number < DATABASES, "the server has {DATABASES} databases");
        format!(
            "mysql://tester:{PASSWORD}@127.0.0.1:{}/test_{number}",
            self.port
        )
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        // The keeper removes the directory when its input closes.
        let _killed = self.server.kill();
        let _ended = self.server.wait();
    }
}

/// A command for a program of MariaDB, which does not run as root.
fn command(program: &Path, data: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .current_dir(data)
        .stdin(Stdio::null());
    if std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
        command.arg("--user=nobody");
    }
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
