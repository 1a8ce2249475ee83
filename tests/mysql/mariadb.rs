//! A real MariaDB server with a directory, a port and a password of its own. No client library is needed to start it.

use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::io::{self, Read as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::support::keeper::{self, Keeper, PASSWORD};
use crate::support::tools;

/// How many databases the server has.
const DATABASES: u32 = 64;

/// A running server.
#[derive(Debug)]
pub(crate) struct Mariadb {
    keeper: Keeper,
    port: u16,
    server: Child,
    /// How many databases were given out.
    given: AtomicU32,
}

/// The server that the tests of a process share, for as long as one of them uses it.
static SHARED: Mutex<Weak<Mariadb>> = Mutex::new(Weak::new());

impl Mariadb {
    /// The server that the tests of this process share. `None` if the programs are missing, which is recorded for `test`.
    pub(crate) fn shared(test: &str) -> Option<Arc<Self>> {
        let programs = tools::mariadb(test)?;
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        Some(shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start(&programs));
            *shared = Arc::downgrade(&server);
            server
        }))
    }

    /// Starts the server, and waits until it accepts connections.
    fn start([program, install]: &[PathBuf; 2]) -> Self {
        let keeper = Keeper::start("data/pid", "KILL");
        // MariaDB drops root's rights, and must still be able to read its directory.
        std::fs::set_permissions(keeper.directory(), Permissions::from_mode(0o755))
            .expect("our directory");
        let data = keeper.directory().join("data");
        std::fs::create_dir(&data).expect("a directory in ours");
        tools::succeed(
            command(install, &data)
                .args(["--auth-root-authentication-method=normal", "--skip-test-db"]),
        );
        let setup = keeper.directory().join("setup.sql");
        let mut sql = format!(
            "CREATE USER tester@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO tester@'%';\n"
        );
        for number in 0..DATABASES {
            let _ = writeln!(sql, "CREATE DATABASE test_{number};");
        }
        std::fs::write(&setup, sql).expect("a file in our directory");
        let port = keeper::free_port();
        let log = File::create(keeper.directory().join("log")).expect("a file in our directory");
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
            keeper,
            port,
            server,
            given: AtomicU32::new(0),
        };
        started.keeper.until_accepted(|| started.greeting());
        started
    }

    /// Reads the first byte that the server sends to a client.
    fn greeting(&self) -> io::Result<()> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        connection.read_exact(&mut [0])
    }

    /// The URL of an empty database that no other caller gets.
    pub(crate) fn create_database(&self) -> String {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        assert!(number < DATABASES, "the server has {DATABASES} databases");
        let port = self.port;
        format!("mysql://tester:{PASSWORD}@127.0.0.1:{port}/test_{number}")
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        // The keeper removes the directory. It would take a child that is not waited for as a running server.
        let _killed = self.server.kill();
        let _ended = self.server.wait();
    }
}

/// A program of MariaDB. It refuses to run as root.
fn command(program: &Path, data: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .current_dir(data)
        .stdin(Stdio::null());
    if keeper::is_root() {
        command.arg("--user=nobody");
    }
    command
}
