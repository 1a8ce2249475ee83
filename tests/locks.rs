//! Who blocks whom: requests that wait for locks of PostgreSQL and SQLite, and what `GET /ops/pool` says about them.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use actix_vitals::Vitals;
use actix_vitals::database::Pool;
use diesel::connection::SimpleConnection as _;
use diesel::r2d2::{self, ConnectionManager, R2D2Connection};
use diesel::{Connection as _, PgConnection, SqliteConnection};
use reqwest::Method;
use serde_json::json;

use crate::support::keeper::{self, PASSWORD};
use crate::support::locked::{
    ITEMS, Locking, SIZE, Service, assert_a_chain_is_named, assert_a_convoy_is_named,
};
use crate::support::postgres::{Cluster, Database};
use crate::support::server::{Data as _, Server};
use crate::support::{tools, wait};

/// The longest wait for something that happens soon.
const BOUND: Duration = Duration::from_secs(30);

impl<C> Locking for Pool<C>
where
    C: R2D2Connection + actix_vitals::database::Explainable + Send + 'static,
{
    async fn open(vitals: &Vitals, name: &'static str, url: &str) -> Self {
        let mut builder = r2d2::Pool::builder().max_size(SIZE);
        if !url.starts_with("postgres:") {
            builder = builder.connection_customizer(Box::new(Patient));
        }
        let pool = vitals.instrument(builder).name(name);
        pool.build(ConnectionManager::new(url)).unwrap()
    }

    async fn transact(&self, sql: &'static [&'static str], client: impl Future<Output = ()>) {
        let pool = self.clone();
        let begin = move || {
            let mut connection = pool.get().unwrap();
            let run = |sql| connection.batch_execute(sql);
            ["BEGIN"]
                .iter()
                .chain(sql)
                .copied()
                .try_for_each(run)
                .unwrap();
            connection
        };
        let mut connection = actix_vitals::block(begin).await.unwrap();
        client.await;
        connection.batch_execute("COMMIT").unwrap();
    }
}

/// Lets SQLite wait for a lock.
#[derive(Debug)]
struct Patient;

impl<C: R2D2Connection> r2d2::CustomizeConnection<C, r2d2::Error> for Patient {
    fn on_acquire(&self, connection: &mut C) -> Result<(), r2d2::Error> {
        (connection.batch_execute("PRAGMA busy_timeout = 60000")).map_err(r2d2::Error::QueryError)
    }
}

/// A database of PostgreSQL with the table, unless its programs are missing.
fn postgres(test: &str) -> Option<(std::sync::Arc<Cluster>, std::sync::Arc<Database>)> {
    let cluster = Cluster::shared(&tools::postgres(test)?);
    let database = cluster.database();
    database.execute(ITEMS);
    Some((cluster, database))
}

#[test]
fn a_convoy_on_postgresql_is_named_with_its_cause() {
    if let Some((_, database)) = postgres("locks: a convoy on PostgreSQL") {
        assert_a_convoy_is_named::<Pool<PgConnection>>("convoy", &database.url());
    }
}

#[test]
fn a_chain_on_postgresql_leads_to_its_end() {
    if let Some((_, database)) = postgres("locks: a chain on PostgreSQL") {
        assert_a_chain_is_named::<Pool<PgConnection>>("chain", &database.url());
    }
}

/// Locks the first row by a connection with this application name, until it is dropped.
fn other_program(url: &str, name: &str) -> PgConnection {
    let mut connection = PgConnection::establish(url).unwrap();
    let sql = format!(
        "SET application_name = '{name}'; BEGIN; UPDATE items SET name = 'hunter2' WHERE id = 1"
    );
    connection.batch_execute(&sql).unwrap();
    connection
}

/// The sentence of the only wait.
fn sentence(service: &Service) -> String {
    let wait = service.waits(1).remove(0);
    wait["sentence"].as_str().unwrap().to_owned()
}

#[test]
fn another_program_is_named_by_its_application_name() {
    let Some((_, database)) = postgres("locks: another program") else {
        return;
    };
    let program = other_program(&database.url(), "psql of the night shift");
    let service = Service::start::<Pool<PgConnection>>("program", &database.url());
    let waiter = service.begin("/waits");
    let wait = service.waits(1).remove(0);
    let holder = &wait["held_by"][0];
    assert_eq!(holder["kind"], "program", "{wait}");
    assert_eq!(holder["application"], "psql of the night shift", "{wait}");
    assert_eq!(holder["doing"], "idle_in_transaction", "{wait}");
    for hidden in ["endpoint", "method", "trace_id", "statement"] {
        assert!(holder[hidden].is_null(), "{wait}");
    }
    let sentence = sentence(&service);
    let expected = "POST /waits/{secret} waits for a lock held by the program \"psql of the night shift\", \
                    idle in transaction for ";
    assert!(sentence.starts_with(expected), "{sentence}");
    drop(program);
    waiter.finish();
    service.stop();
}

#[test]
fn what_a_role_may_not_see_of_others_is_said() {
    let Some((_, database)) = postgres("locks: a role without rights") else {
        return;
    };
    database.execute("CREATE ROLE weak LOGIN PASSWORD 'weak'; GRANT ALL ON items TO weak");
    let url = database.url();
    let (_, rest) = url.split_once('@').unwrap();
    let weak = format!("postgres://weak:weak@{rest}");
    let program = other_program(&url, "psql");
    let service = Service::start::<Pool<PgConnection>>("weak", &weak);
    let waiter = service.begin("/waits");
    assert_eq!(
        sentence(&service),
        "POST /waits/{secret} waits for a lock held by the program \"psql\", whose activity is not visible to this role"
    );
    // Revoked while somebody waits: the next question asks for less.
    database.execute("REVOKE SELECT ON pg_catalog.pg_stat_activity FROM PUBLIC");
    let expected =
        "POST /waits/{secret} waits for a lock held by a program that is not visible to this role";
    service.wait_for("restricted", |pool| {
        pool["locks"]["waits"][0]["sentence"] == expected
    });
    drop(program);
    waiter.finish();
    service.stop();
}

#[actix_web::test]
async fn a_pool_that_waits_for_another_one_of_its_server_is_told_the_holder() {
    use actix_web::{App, test};

    let Some((_, database)) = postgres("locks: two pools") else {
        return;
    };
    let builder = Vitals::builder().ops(actix_vitals::ops::OpsSettings::everything());
    let vitals = builder.build().unwrap();
    let open = |name: &'static str| {
        let pool = vitals.instrument(r2d2::Pool::builder().max_size(2));
        let manager = ConnectionManager::<PgConnection>::new(database.url());
        pool.name(name).build(manager).unwrap()
    };
    let (first, second) = (open("first"), open("second"));
    let update = "UPDATE items SET name = 'x' WHERE id = 1";
    let mut holder = second.get().unwrap();
    holder.batch_execute(&format!("BEGIN; {update}")).unwrap();
    let waiter = thread::spawn(move || first.get().unwrap().batch_execute(update).unwrap());
    let app = test::init_service(App::new().configure(vitals.ops())).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let request = test::TestRequest::with_uri("/ops/pool").to_request();
        let listing: serde_json::Value = test::call_and_read_body_json(&app, request).await;
        let wait = &listing["pools"][0]["locks"]["waits"][0];
        // Until the server of the second pool is known, its connection is that of a program.
        if wait["held_by"][0]["kind"] == "outside" {
            assert_eq!(wait["held_by"][0]["doing"], "idle_in_transaction", "{wait}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{listing:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    holder.batch_execute("COMMIT").unwrap();
    waiter.join().unwrap();
}

#[test]
fn a_change_of_the_schema_that_blocks_reads_is_named() {
    let Some((_, database)) = postgres("locks: a change of the schema") else {
        return;
    };
    let mut migration = PgConnection::establish(&database.url()).unwrap();
    let sql = "SET application_name = 'migrate'; BEGIN; ALTER TABLE items ADD COLUMN more TEXT";
    migration.batch_execute(sql).unwrap();
    let service = Service::start::<Pool<PgConnection>>("schema", &database.url());
    let waiter = service.begin("/waits");
    let sentence = sentence(&service);
    let expected = "POST /waits/{secret} waits for a lock held by the program \"migrate\", idle in transaction for ";
    assert!(sentence.starts_with(expected), "{sentence}");
    migration.batch_execute("ROLLBACK").unwrap();
    waiter.finish();
    service.stop();
}

#[test]
fn a_server_that_stops_answering_leaves_its_last_answer_with_its_age() {
    let Some(programs) = tools::postgres("locks: a server that stops answering") else {
        return;
    };
    let cluster = Cluster::start(&programs);
    let database = cluster.database();
    database.execute(ITEMS);
    let service = Service::start::<Pool<PgConnection>>("stopped", &database.url());
    let holder = service.begin("/holds");
    service.wait_until("/holds/{secret}", "idle_in_transaction");
    let waiter = service.begin("/waits");
    service.waits(1);
    cluster.signal_all("STOP");
    // Two seconds without a question: the one that was under way, and no further one.
    let pool = service.wait_for("old", |pool| {
        pool["locks"]["age_seconds"].as_f64().unwrap_or(0.0) > 2.5
    });
    assert_eq!(pool["locks"]["waits"][0]["endpoint"], "/waits/{secret}");
    cluster.signal_all("CONT");
    service.wait_for("new", |pool| {
        pool["locks"]["age_seconds"].as_f64().unwrap_or(9.0) < 1.5
    });
    holder.finish();
    waiter.finish();
    service.stop();
}

/// How long a [late proxy](start_late_proxy) keeps the first bytes of a client: longer than the recorder tolerates that a
/// process of the server is older than its connection.
const LATENESS: Duration = Duration::from_secs(3);

/// Forwards connections to a server, which gets the first bytes of each client late. Returns the address of the proxy, which
/// lasts as long as this process.
fn start_late_proxy(server: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                thread::sleep(LATENESS);
                forward(from, to);
            });
            thread::spawn(move || forward(server, client));
        }
    });
    address
}

/// Copies all bytes until one of both ends.
fn forward(mut from: TcpStream, mut to: TcpStream) {
    // Either side may close its end, with an error or without.
    let _copied = io::copy(&mut from, &mut to);
    let _shut = to.shutdown(Shutdown::Write);
}

#[test]
fn connections_whose_opening_takes_long_are_not_taken_for_those_of_a_pooler() {
    let Some((_, database)) = postgres("locks: openings that take long") else {
        return;
    };
    let url = database.url();
    let (user, address) = url.split_once('@').unwrap();
    let (server, name) = address.split_once('/').unwrap();
    let proxy = start_late_proxy(server.to_owned());
    let url = format!("{user}@{proxy}/{name}");
    let service = Service::start::<Pool<PgConnection>>("late", &url);
    let holder = service.begin("/holds");
    service.wait_until("/holds/{secret}", "idle_in_transaction");
    let waiter = service.begin("/waits");
    let wait = service.waits(1).remove(0);
    let holders = &wait["held_by"];
    assert_eq!(holders[0]["endpoint"], "/holds/{secret}", "{wait}");
    holder.finish();
    waiter.finish();
    service.stop();
}

/// A `PgBouncer` in transaction mode before a server, which ends when it is dropped.
struct Bouncer {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Bouncer {
    fn start(program: &Path, database: &Database) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), open).unwrap();
        let port = keeper::free_port();
        let url = database.url();
        let (_, address) = url.split_once('@').unwrap();
        let (host, name) = address.split_once('/').unwrap();
        let (host, server_port) = host.split_once(':').unwrap();
        let configuration = format!(
            "[databases]\n{name} = host={host} port={server_port} user=tester password={PASSWORD}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n\
             pool_mode = transaction\nunix_socket_dir =\nignore_startup_parameters = extra_float_digits\n"
        );
        let file = directory.path().join("pgbouncer.ini");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new(program);
        command
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((user, group)) = crate::support::postgres::unprivileged() {
            use std::os::unix::process::CommandExt as _;
            command.uid(user).gid(group);
        }
        let child = command.spawn().unwrap();
        Self {
            child,
            port,
            _directory: directory,
        }
    }

    fn url(&self, database: &Database) -> String {
        let url = database.url();
        let (_, name) = url.rsplit_once('/').unwrap();
        format!(
            "postgres://tester:{PASSWORD}@127.0.0.1:{}/{name}",
            self.port
        )
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn behind_a_pooler_it_says_that_it_cannot_tell() {
    let Some((_, database)) = postgres("locks: PgBouncer") else {
        return;
    };
    let Some(program) = tools::pgbouncer("locks: PgBouncer") else {
        return;
    };
    let bouncer = Bouncer::start(&program, &database);
    let url = bouncer.url(&database);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let warm = loop {
        match PgConnection::establish(&url) {
            Ok(connection) => break connection,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    drop(warm);
    let service = Service::start::<Pool<PgConnection>>("bouncer", &url);
    let holder = service.begin("/holds");
    service.wait_until("/holds/{secret}", "idle_in_transaction");
    let waiter = service.begin("/waits");
    let pool = service.wait_for("noticed", |pool| {
        let unknown = pool["locks"]["unknown"].as_str();
        unknown.is_some_and(|unknown| unknown.contains("PgBouncer"))
    });
    assert_eq!(pool["locks"]["waits"].as_array().unwrap().len(), 0);
    holder.finish();
    waiter.finish();
    service.stop();
}

/// A file of SQLite with the table, in a directory.
fn sqlite(journal: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("items.db").display().to_string();
    let mut connection = SqliteConnection::establish(&path).unwrap();
    let sql = format!("PRAGMA journal_mode = {journal}; {ITEMS}");
    connection.batch_execute(&sql).unwrap();
    (directory, path)
}

#[test]
fn a_convoy_on_sqlite_is_named_with_its_cause() {
    let (_directory, path) = sqlite("WAL");
    assert_a_convoy_is_named::<Pool<SqliteConnection>>("convoy", &path);
}

/// Runs in a process of its own, and locks a file until the end of its input.
#[test]
fn a_process_that_locks_a_file() {
    let Ok(path) = std::env::var("VITALS_TEST_LOCKS") else {
        return;
    };
    let mut connection = SqliteConnection::establish(&path).unwrap();
    connection.batch_execute("BEGIN IMMEDIATE").unwrap();
    println!("locked");
    let _end = std::io::stdin().read_line(&mut String::new());
}

fn assert_another_process_is_named(journal: &str) {
    use std::io::BufRead as _;

    let (_directory, path) = sqlite(journal);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "locks::a_process_that_locks_a_file",
            "--nocapture",
        ])
        .env("VITALS_TEST_LOCKS", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut lines = output.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("locked")), "it has the lock");
    let service = Service::start::<Pool<SqliteConnection>>("process", &path);
    let waiter = service.begin("/waits");
    assert_eq!(
        sentence(&service),
        "POST /waits/{secret} waits for a lock held by another process"
    );
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    waiter.finish();
    service.stop();
}

#[test]
fn another_process_that_locks_a_log_of_sqlite_is_named_as_that() {
    assert_another_process_is_named("WAL");
}

#[test]
fn another_process_that_locks_a_file_of_sqlite_is_named_as_that() {
    assert_another_process_is_named("DELETE");
}

#[test]
fn code_outside_of_the_pools_that_locks_a_file_of_sqlite_is_this_process() {
    let (_directory, path) = sqlite("DELETE");
    let mut connection = SqliteConnection::establish(&path).unwrap();
    connection.batch_execute("BEGIN IMMEDIATE").unwrap();
    let service = Service::start::<Pool<SqliteConnection>>("unpooled", &path);
    let waiters = [service.begin("/waits"), service.begin("/waits")];
    let wait = service.waits(2).remove(0);
    assert_eq!(wait["held_by"][0]["kind"], "this_process", "{wait}");
    connection.batch_execute("COMMIT").unwrap();
    for waiter in waiters {
        waiter.finish();
    }
    service.stop();
}

/// The service's own store passes on which of its calls took a connection.
#[tokio::test]
async fn the_service_names_the_call_of_its_store_that_took_a_connection() {
    let server = Server::start();
    let mut other = SqliteConnection::establish(server.database().to_str().unwrap()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let item = json!({"name": "Ada", "email": "ada@example.com"});
    let write = server.send(Method::POST, "/data", &item);
    let look = wait::until("the writer to be listed", BOUND, async || {
        let pools = server.get("/ops/pool").await.json();
        let connections = pools["pools"].as_array().into_iter().flatten();
        let mut held =
            connections.flat_map(|pool| pool["connections"].as_array().into_iter().flatten());
        let taken_at = held.find_map(|connection| connection["taken_at"].as_str());
        taken_at.map(str::to_owned).ok_or(pools.to_string())
    });
    let (written, taken_at) = tokio::join!(write, async {
        let taken_at = look.await;
        other.batch_execute("COMMIT").unwrap();
        taken_at
    });
    assert!(taken_at.starts_with("src/store.rs:"), "{taken_at}");
    assert_eq!(written.status, 201);
}

/// SQLite has one writer at a time, so the pool of writers has one connection, and further writers wait for it.
#[tokio::test]
async fn writers_that_wait_for_their_turn_hold_nothing_and_the_cause_is_named() {
    let server = Server::start_with(&["--pool-timeout", "60s"]);
    let mut other = SqliteConnection::establish(server.database().to_str().unwrap()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let item = json!({"name": "Ada", "email": "ada@example.com"});
    let write = || server.send(Method::POST, "/data", &item);
    let writes = async { tokio::join!(write(), write(), write()) };
    let look = wait::until("two writers to wait", BOUND, async || {
        let pools = server.get("/ops/pool").await.json();
        let pools = pools["pools"].as_array().unwrap();
        let queue = pools.iter().find(|pool| pool["pool"] == "writers");
        let queue = queue.expect("the pool").clone();
        let waits = queue["locks"]["waits"].as_array();
        if queue["waiting"] == 2 && waits.is_some_and(|waits| !waits.is_empty()) {
            Ok(queue)
        } else {
            Err(queue.to_string())
        }
    });
    let (answers, queue) = tokio::join!(writes, async {
        let queue = look.await;
        let requests = server.get("/ops/requests").await.json();
        other.batch_execute("COMMIT").unwrap();
        let requests = requests["requests"].as_array().unwrap().clone();
        let doing: Vec<_> = requests
            .iter()
            .map(|request| request["doing"].clone())
            .collect();
        assert_eq!(
            doing.iter().filter(|doing| *doing == "pool_wait").count(),
            2,
            "{doing:?}"
        );
        queue
    });
    let connections = queue["connections"].as_array().unwrap();
    let doing: Vec<_> = connections
        .iter()
        .map(|held| held["doing"].as_str())
        .collect();
    assert_eq!(doing, [Some("query")], "{queue:#}");
    let sentence = queue["locks"]["waits"][0]["sentence"].as_str().unwrap();
    assert_eq!(
        sentence,
        "POST /data waits for a lock held by another process"
    );
    for answer in [answers.0, answers.1, answers.2] {
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
}
