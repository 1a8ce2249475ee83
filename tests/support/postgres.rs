//! A real PostgreSQL, started for the tests of one binary: its own directory, its own port, its own password; stopped
//! and gone when the process ends, however it ends. And databases on it, each for one test.
//!
//! PostgreSQL refuses to run as root, so there it runs as an unprivileged user. It does not wait for disks.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};
use tempfile::TempDir;

use super::server::Data;

/// How long PostgreSQL may take to start; generous, for a busy machine.
const START_BOUND: Duration = Duration::from_secs(60);

/// The password of the tests' user, which must be seen nowhere.
pub(crate) const PASSWORD: &str = "pl4nted-p4ssword";

const USER: &str = "tester";

/// Stops the server and removes its directory as soon as nothing can come from its input any more.
const KEEPER: &str = r#"
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -QUIT "$pid" 2>/dev/null
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
fi
rm -rf "$1"
"#;

/// A PostgreSQL server, running or not.
#[derive(Debug)]
pub(crate) struct Cluster {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
    postmaster: Mutex<Option<Child>>,
    databases: AtomicU32,
    /// Its input keeps it waiting. It outlives this process, so nobody waits for it.
    _keeper: Child,
}

impl Cluster {
    /// The server that all tests of this binary share.
    pub(crate) fn shared(programs: &Path) -> Arc<Self> {
        static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| Self::start(programs)))
    }

    /// A server of its own, for a test that does harm to it.
    pub(crate) fn start(programs: &Path) -> Arc<Self> {
        let directory = TempDir::new().expect("a temporary directory").keep();
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&directory)
            // Ctrl-C is for the tests; this one must outlive them.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let cluster = Self {
            programs: programs.to_owned(),
            port: free_port(),
            postmaster: Mutex::default(),
            databases: AtomicU32::new(0),
            _keeper: keeper,
            directory,
        };
        cluster.initialise();
        cluster.resume();
        Arc::new(cluster)
    }

    fn initialise(&self) {
        if let Some((user, group)) = unprivileged() {
            chown(&self.directory, Some(user), Some(group)).expect("root may give it away");
        }
        let password = self.directory.join("password");
        writeln!(
            File::create(&password).expect("a file in our directory"),
            "{PASSWORD}"
        )
        .expect("a file can be written");
        let output = self
            .command("initdb")
            .args(["--username", USER, "--encoding", "UTF8", "--locale", "C"])
            .args(["--auth", "scram-sha-256", "--no-sync", "--no-instructions"])
            .arg("--pwfile")
            .arg(&password)
            .output()
            .expect("initdb starts");
        assert!(
            output.status.success(),
            "initdb: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts the server (again), and waits until it answers.
    pub(crate) fn resume(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .expect("the log can be opened");
        let child = self
            .command("postgres")
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-F", "-k"])
            .arg(&self.directory)
            .args(["-c", "max_connections=500", "-c", "shared_buffers=32MB"])
            .args(["-c", "full_page_writes=off", "-c", "lc_messages=C"])
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("postgres starts");
        *self.postmaster() = Some(child);
        let deadline = Instant::now() + START_BOUND;
        while let Err(error) = PgConnection::establish(&self.url("postgres")) {
            assert!(
                Instant::now() < deadline,
                "PostgreSQL does not start: {error}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .arg("-D")
            .arg(self.directory.join("data"))
            .current_dir(&self.directory)
            .env_clear()
            .stdin(Stdio::null());
        if let Some((user, group)) = unprivileged() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Kills the server with `kill -9`, and with it all connections, and waits until no part of it runs.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.postmaster().take() {
            let parts = children_of(child.id());
            child.kill().expect("the postmaster can be killed");
            child.wait().expect("the postmaster can be waited for");
            // They notice by themselves that it is gone, but some only after their statement.
            for part in &parts {
                signal("KILL", *part);
            }
            let deadline = Instant::now() + START_BOUND;
            while parts.iter().any(|part| runs(*part)) {
                assert!(Instant::now() < deadline, "a part of PostgreSQL still runs");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Stops every process of the server where it is (`STOP`), or lets them go on (`CONT`): to its clients it looks like
    /// a machine that has gone without a word.
    pub(crate) fn signal_all(&self, name: &str) {
        let postmaster = self.postmaster().as_ref().map(Child::id);
        if let Some(postmaster) = postmaster {
            signal(name, postmaster);
            for part in children_of(postmaster) {
                signal(name, part);
            }
        }
    }

    /// Kills the process behind one connection of the service to `database` with `kill -9`; false where there is none.
    ///
    /// The server then ends all other connections, too, and starts anew by itself.
    pub(crate) fn kill_backend(&self, database: &Database) -> bool {
        use diesel::sql_types::{Integer, Text};
        use diesel::{OptionalExtension as _, RunQueryDsl as _};

        #[derive(diesel::QueryableByName)]
        struct Backend {
            #[diesel(sql_type = Integer)]
            pid: i32,
        }
        let mut admin = self.connect("postgres");
        let backend: Option<Backend> =
            diesel::sql_query("SELECT pid FROM pg_stat_activity WHERE datname = $1 LIMIT 1")
                .bind::<Text, _>(&database.name)
                .get_result(&mut admin)
                .optional()
                .expect("the server tells its backends");
        let Some(backend) = backend else {
            return false;
        };
        signal("KILL", backend.pid.unsigned_abs());
        true
    }

    /// A new database on this server.
    pub(crate) fn database(self: &Arc<Self>) -> Arc<Database> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.connect("postgres")
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .expect("a database can be made");
        Arc::new(Database {
            cluster: Arc::clone(self),
            name,
        })
    }

    /// Everything that the server has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn connect(&self, database: &str) -> PgConnection {
        PgConnection::establish(&self.url(database)).expect("the server lets us in")
    }

    fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    fn postmaster(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.postmaster
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- log of PostgreSQL\n{}---", self.log());
        }
        // The keeper does the rest when its input closes. But a child that is not waited for stays as a zombie, which
        // the keeper would take for alive.
        if let Some(mut child) = self.postmaster().take() {
            signal("CONT", child.id());
            signal("QUIT", child.id());
            let _reaped = child.wait();
        }
    }
}

/// One database; dropped with all connections to it.
#[derive(Debug)]
pub(crate) struct Database {
    cluster: Arc<Cluster>,
    name: String,
}

impl Data for Database {
    fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    fn execute(&self, sql: &str) {
        self.cluster
            .connect(&self.name)
            .batch_execute(sql)
            .expect("the statement is carried out");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Where the server is gone, so is the database.
        if let Ok(mut admin) = PgConnection::establish(&self.cluster.url("postgres")) {
            let dropped = admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
            if !std::thread::panicking() {
                dropped.expect("a database can be dropped");
            }
        }
    }
}

/// The user and group that PostgreSQL runs as where the tests run as root.
fn unprivileged() -> Option<(u32, u32)> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let account = |name: &str| {
        let line = accounts
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    root.then(|| account("postgres").or_else(|| account("nobody")))
        .flatten()
}

/// The processes that this one has started.
fn children_of(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn runs(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which is in parentheses; a zombie runs no more.
    state
        .rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn signal(name: &str, pid: u32) {
    // It may be gone already.
    let _sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .stderr(Stdio::null())
        .status();
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
