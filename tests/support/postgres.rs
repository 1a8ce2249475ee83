//! A real PostgreSQL server, shared by the tests of one binary, and databases on it, each for one test.
//!
//! PostgreSQL refuses to run as root, so then it runs as an unprivileged user. It does not wait for disks.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::keeper::{self, Keeper, START_BOUND};
use super::server::Data;
use super::tools;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};

pub(crate) use super::keeper::PASSWORD;

const USER: &str = "tester";

/// A PostgreSQL server, running or not.
#[derive(Debug)]
pub(crate) struct Cluster {
    programs: PathBuf,
    keeper: Keeper,
    port: u16,
    postmaster: Mutex<Option<Child>>,
    databases: AtomicU32,
}

impl Cluster {
    /// The server that all tests of this binary share.
    pub(crate) fn shared(programs: &Path) -> Arc<Self> {
        static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| Self::start(programs)))
    }

    /// A server for one test, which may stop or break it.
    pub(crate) fn start(programs: &Path) -> Arc<Self> {
        let cluster = Self {
            programs: programs.to_owned(),
            keeper: Keeper::start("data/postmaster.pid", "QUIT"),
            port: keeper::free_port(),
            postmaster: Mutex::default(),
            databases: AtomicU32::new(0),
        };
        cluster.initialise();
        cluster.resume();
        Arc::new(cluster)
    }

    fn initialise(&self) {
        if let Some((user, group)) = unprivileged() {
            chown(self.directory(), Some(user), Some(group)).expect("root may change the owner");
        }
        let password = self.directory().join("password");
        writeln!(
            File::create(&password).expect("a file in our directory"),
            "{PASSWORD}"
        )
        .expect("a file can be written");
        let mut initdb = self.command("initdb");
        initdb
            .args(["--username", USER, "--encoding", "UTF8", "--locale", "C"])
            .args(["--auth", "scram-sha-256", "--no-sync", "--no-instructions"])
            .arg("--pwfile")
            .arg(&password);
        tools::succeed(&mut initdb);
    }

    /// Starts the server (again), and waits until it answers.
    pub(crate) fn resume(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory().join("log"))
            .expect("the log can be opened");
        let child = self
            .command("postgres")
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-F", "-k"])
            .arg(self.directory())
            .args(["-c", "max_connections=500", "-c", "shared_buffers=32MB"])
            .args(["-c", "full_page_writes=off", "-c", "lc_messages=C"])
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("postgres starts");
        *self.postmaster() = Some(child);
        self.keeper
            .until_accepted(|| PgConnection::establish(&self.url("postgres")));
    }

    fn directory(&self) -> &Path {
        self.keeper.directory()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .arg("-D")
            .arg(self.directory().join("data"))
            .current_dir(self.directory())
            .env_clear()
            .stdin(Stdio::null());
        if let Some((user, group)) = unprivileged() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Kills the server and all its connections with `kill -9`, and waits until all its processes have ended.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.postmaster().take() {
            let parts = children_of(child.id());
            child.kill().expect("the postmaster can be killed");
            child.wait().expect("the postmaster can be waited for");
            // Some processes notice only after their statement that the server has ended.
            for part in &parts {
                signal("KILL", *part);
            }
            let deadline = Instant::now() + START_BOUND;
            while parts.iter().any(|part| runs(*part)) {
                assert!(
                    Instant::now() < deadline,
                    "a process of PostgreSQL still runs"
                );
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Suspends every process of the server (`STOP`) or continues them (`CONT`). To clients, a suspended server looks like
    /// a machine that has lost its network.
    pub(crate) fn signal_all(&self, name: &str) {
        let postmaster = self.postmaster().as_ref().map(Child::id);
        if let Some(postmaster) = postmaster {
            signal(name, postmaster);
            for part in children_of(postmaster) {
                signal(name, part);
            }
        }
    }

    /// Kills the process of one connection to `database` with `kill -9`. Returns false if there is none.
    ///
    /// The server then ends all other connections too and restarts by itself.
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
                .expect("the server lists its backends");
        let Some(backend) = backend else {
            return false;
        };
        signal("KILL", backend.pid.unsigned_abs());
        true
    }

    /// Creates a database on this server.
    pub(crate) fn database(self: &Arc<Self>) -> Arc<Database> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.connect("postgres")
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .expect("a database can be created");
        Arc::new(Database {
            cluster: Arc::clone(self),
            name,
        })
    }

    /// The log of the server.
    pub(crate) fn log(&self) -> String {
        self.keeper.log()
    }

    fn connect(&self, database: &str) -> PgConnection {
        PgConnection::establish(&self.url(database)).expect("the server accepts the connection")
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
        if thread::panicking() {
            println!("--- log of PostgreSQL\n{}---", self.log());
        }
        // The keeper removes the directory. A child that is not waited for stays as a zombie, which the keeper would take
        // for a running server.
        if let Some(mut child) = self.postmaster().take() {
            signal("CONT", child.id());
            signal("QUIT", child.id());
            let _reaped = child.wait();
        }
    }
}

impl Database {
    /// Ends all connections to this database, as an administrator does, and waits until they have ended.
    pub(crate) fn terminate_backends(&self) {
        self.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
    }
}

/// One database. Dropping it closes all connections to it.
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
            .expect("the statement succeeds");
    }
}

impl Drop for Database {
    /// The server drops a database once all its processes have answered. One that authenticates a client does so when that is
    /// over, after a minute at most. If that client is a task of this thread, it goes on when this returns only. So
    /// another thread drops the database, and this one waits for a second.
    fn drop(&mut self) {
        let (cluster, name) = (Arc::clone(&self.cluster), self.name.clone());
        let (send, dropped) = mpsc::channel();
        thread::spawn(move || {
            // If the server has ended, its databases have gone with its directory.
            if let Ok(mut admin) = PgConnection::establish(&cluster.url("postgres")) {
                let dropped = admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"));
                let _nobody_waits = send.send(dropped);
            }
        });
        if let Ok(dropped) = dropped.recv_timeout(Duration::from_secs(1))
            && !thread::panicking()
        {
            dropped.expect("a database can be dropped");
        }
    }
}

/// The user and group that PostgreSQL runs as, if the tests run as root.
pub(crate) fn unprivileged() -> Option<(u32, u32)> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let account = |name: &str| {
        let line = accounts
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    keeper::is_root()
        .then(|| account("postgres").or_else(|| account("nobody")))
        .flatten()
}

/// The child processes of a process.
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
    // The state follows the name, which is in parentheses. A zombie has ended.
    state
        .rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn signal(name: &str, pid: u32) {
    // The process may have ended.
    let _sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .stderr(Stdio::null())
        .status();
}
