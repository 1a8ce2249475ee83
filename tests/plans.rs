//! Plans of a real PostgreSQL, of each version that is installed: their flags and changes, that explaining executes and
//! changes nothing, and what happens when the database gives no plan.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_vitals::Vitals;
use actix_vitals::database::{Order, PlanFlagKind, PlanReport, Pool, sql};
use diesel::connection::SimpleConnection as _;
use diesel::r2d2::{self, ConnectionManager, CustomizeConnection};
use diesel::{Connection as _, PgConnection, QueryResult, RunQueryDsl as _, sql_query};
use serde_json::{Value, json};

use crate::support::postgres::{Cluster, Database};
use crate::support::server::{Data as _, Server};
use crate::support::{tools, wait};

/// No test waits longer for a plan.
const BOUND: Duration = Duration::from_secs(60);

const ITEMS: &str =
    "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL);
    INSERT INTO items SELECT i, 'name ' || i, i % 100 FROM generate_series(1, 50000) i;
    ANALYZE items";

/// A service with one pool, to a database of its own.
struct Explained {
    vitals: Vitals,
    pool: Pool<PgConnection>,
}

impl Explained {
    fn new(database: &Database) -> Self {
        Self::with(database.url(), r2d2::Pool::builder())
    }

    fn with(
        url: String,
        builder: r2d2::Builder<actix_vitals::database::Manager<PgConnection>>,
    ) -> Self {
        let vitals = Vitals::builder().build().unwrap();
        let builder = builder
            .max_size(2)
            .connection_timeout(Duration::from_secs(5));
        let pool = vitals.instrument(builder);
        let pool = pool.build(ConnectionManager::new(url)).unwrap();
        Self { vitals, pool }
    }

    /// Runs a statement with `calls` times the bind 7, and returns its number.
    fn run(&self, sql: &str, calls: u32) -> NonZeroU32 {
        let mut connection = self.pool.get().unwrap();
        for _ in 0..calls {
            let query = sql_query(sql).bind::<diesel::sql_types::Integer, _>(7);
            query.execute(&mut connection).unwrap();
        }
        drop(connection);
        self.number(sql)
    }

    /// Runs a statement in a transaction that is rolled back, so that it is known and has changed nothing.
    fn run_in_vain(&self, sql: &str) -> NonZeroU32 {
        let mut connection = self.pool.get().unwrap();
        let rolled_back: QueryResult<()> = connection.transaction(|connection| {
            let query = sql_query(sql).bind::<diesel::sql_types::Integer, _>(7);
            query.execute(connection).unwrap();
            Err(diesel::result::Error::RollbackTransaction)
        });
        assert!(rolled_back.is_err());
        drop(connection);
        self.number(sql)
    }

    fn number(&self, sql: &str) -> NonZeroU32 {
        let shape = sql::read(sql, sql::Dialect::PostgreSql).shape;
        let reports = self.vitals.statements().report(Order::Total, 1000);
        let report = reports.iter().find(|report| report.statement == shape);
        report
            .unwrap_or_else(|| panic!("{shape} is not among {reports:?}"))
            .number
            .unwrap()
    }

    /// Looks at the plan of a statement until `is_it` is true. No look waits for the database.
    fn wait_for(&self, number: NonZeroU32, is_it: impl Fn(&PlanReport) -> bool) -> PlanReport {
        let deadline = Instant::now() + BOUND;
        loop {
            let report = self.vitals.plan(number);
            if is_it(&report) {
                return report;
            }
            assert!(Instant::now() < deadline, "{report:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait_for_reason(&self, number: NonZeroU32, part: &str) {
        self.wait_for(number, |report| {
            let reason = report.reason.as_deref();
            reason.is_some_and(|reason| reason.contains(part))
        });
    }

    fn plan(&self, number: NonZeroU32) -> PlanReport {
        self.wait_for(number, |report| {
            report.plan.is_some() && report.reason.is_none()
        })
    }
}

fn kinds(report: &PlanReport) -> Vec<PlanFlagKind> {
    let flags = report.plan.iter().flat_map(|plan| &plan.flags);
    flags.map(|flag| flag.kind).collect()
}

/// Runs a test on each version.
fn on_each_version(test: &str, run: impl Fn(&Arc<Cluster>)) {
    for programs in tools::postgres_versions(test) {
        run(&cluster(&programs));
    }
}

fn cluster(programs: &Path) -> Arc<Cluster> {
    println!("PostgreSQL in {}", programs.display());
    Cluster::start(programs)
}

#[test]
fn a_plan_of_postgresql_has_flags_and_its_change_is_counted() {
    on_each_version("plans of PostgreSQL", |cluster| {
        let database = cluster.database();
        database.execute(ITEMS);
        // To sort all rows takes about 2 MB.
        database.execute("ALTER ROLE tester SET work_mem = '1MB'");
        let service = Explained::new(&database);
        let size = service.run("SELECT id FROM items WHERE size = $1", 20);
        let report = service.plan(size);
        assert_eq!(
            kinds(&report),
            [PlanFlagKind::SequentialScan, PlanFlagKind::MissingIndex]
        );
        let plan = report.plan.unwrap();
        assert_eq!(
            plan.flags[0].sentence,
            "Each call reads all of about 50,000 rows of items."
        );
        assert_eq!(
            plan.flags[1].advice.as_deref(),
            Some("CREATE INDEX ON items (size)")
        );
        assert_eq!(plan.root.conditions[0].1, "(size = ?)");
        for (sql, expected) in [
            ("SELECT name FROM items WHERE id = $1", &[] as &[_]),
            (
                "SELECT name, size FROM items WHERE id <> $1 ORDER BY name",
                &[PlanFlagKind::SortOnDisk, PlanFlagKind::SequentialScan],
            ),
        ] {
            let report = service.plan(service.run(sql, 3));
            assert_eq!(kinds(&report), expected, "{sql}");
        }
        let changes = "db_statement_plan_changes_total";
        assert_eq!(service.vitals.value(changes, &[]), Some(0.0));
        database.execute("CREATE INDEX items_size ON items (size)");
        service.run("SELECT id FROM items WHERE size = $1", 20);
        let report = service.wait_for(size, |report| !report.changes.is_empty());
        assert_eq!(kinds(&report), []);
        assert_eq!(report.changes[0].before.flags, plan.flags);
        assert!(report.changes[0].p95_before.is_some());
        assert_eq!(service.vitals.value(changes, &[]), Some(1.0));
        // The connection says what it is, and is none of the pool's.
        assert_eq!(
            service.vitals.value("db_connections_opened_total", &[]),
            Some(2.0)
        );
        database.execute(
            "DO $$ BEGIN ASSERT (SELECT count(*) FROM pg_stat_activity \
             WHERE application_name = 'actix-vitals explaining' AND datname = current_database()) = 1; END $$",
        );
    });
}

/// What could be changed, and statements that would change it.
const SIDE_EFFECTS: &str = "CREATE TABLE log (id SERIAL, what TEXT);
    CREATE SEQUENCE numbers;
    CREATE FUNCTION writes(what INTEGER) RETURNS INTEGER LANGUAGE plpgsql VOLATILE AS
        $$ BEGIN INSERT INTO log (what) VALUES ('volatile'); RETURN what; END $$;
    CREATE FUNCTION says_stable() RETURNS INTEGER LANGUAGE plpgsql STABLE AS
        $$ BEGIN RETURN nextval('numbers'); END $$;
    CREATE FUNCTION says_immutable() RETURNS INTEGER LANGUAGE plpgsql IMMUTABLE AS
        $$ BEGIN INSERT INTO log (what) VALUES ('immutable'); RETURN 1; EXCEPTION WHEN OTHERS THEN RETURN 2; END $$;
    CREATE FUNCTION logs() RETURNS TRIGGER LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO log (what) VALUES ('trigger'); RETURN NULL; END $$;
    CREATE TRIGGER logged AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION logs();
    CREATE VIEW sequences AS SELECT 'numbers'::regclass AS name;
    CREATE VIEW names AS SELECT id, name, writes(size) AS size FROM items";

const STATEMENTS: [&str; 13] = [
    "SELECT writes($1)",
    "SELECT nextval(name) + $1 FROM sequences",
    "SELECT name FROM items WHERE says_immutable() = $1",
    "SELECT name FROM items WHERE size = says_stable() + $1",
    "SELECT name FROM items WHERE id = $1 FOR UPDATE",
    "WITH gone AS (DELETE FROM items WHERE size = $1 RETURNING id) SELECT id FROM gone",
    "WITH added AS (INSERT INTO log (what) SELECT name FROM items WHERE id = $1 RETURNING id) SELECT id FROM added",
    "INSERT INTO log (what) SELECT name FROM items WHERE id = $1",
    "UPDATE items SET size = size + $1 WHERE id = $1",
    "DELETE FROM items WHERE size = $1",
    "SELECT size FROM names WHERE id = $1",
    "SELECT pg_advisory_lock($1)",
    "INSERT INTO items (id, name, size) SELECT $1, what, writes($1) FROM log ON CONFLICT (id) DO UPDATE SET size = $1",
];

#[test]
fn explaining_executes_nothing_on_postgresql() {
    #[derive(diesel::QueryableByName, Debug, PartialEq)]
    struct State {
        #[diesel(sql_type = diesel::sql_types::Text)]
        state: String,
    }
    on_each_version("side effects of explaining", |cluster| {
        let database = cluster.database();
        database.execute(ITEMS);
        database.execute(SIDE_EFFECTS);
        let service = Explained::new(&database);
        let state = || {
            let mut connection = PgConnection::establish(&database.url()).unwrap();
            let state: State = sql_query(
                "SELECT md5(string_agg(i::text, ',' ORDER BY id)) || (SELECT count(*) FROM log) \
                 || (SELECT last_value || is_called::text FROM numbers) \
                 || (SELECT last_value || is_called::text FROM log_id_seq) \
                 || (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') \
                 || (SELECT count(*) FROM pg_class) AS state FROM items i",
            )
            .get_result(&mut connection)
            .unwrap();
            state
        };
        let numbers = STATEMENTS.map(|sql| (service.run_in_vain(sql), sql));
        let unlock = "SELECT pg_advisory_unlock_all()";
        service.pool.get().unwrap().batch_execute(unlock).unwrap();
        let before = state();
        for (number, sql) in numbers {
            if sql.contains("says_stable") {
                // The planner runs a function that says it changes nothing. The transaction does not let it.
                service.wait_for_reason(number, "rejected");
            } else {
                assert!(service.plan(number).plan.is_some(), "{sql}");
            }
        }
        assert_eq!(state(), before);
    });
}

#[test]
fn a_statement_without_a_plan_has_a_reason_and_nobody_waits() {
    on_each_version("plans that fail", |cluster| {
        let database = cluster.database();
        database.execute(ITEMS);
        let service = Explained::new(&database);
        let size = service.run("SELECT id FROM items WHERE size = $1", 5);
        // A change of the schema holds its lock.
        let mut admin = PgConnection::establish(&database.url()).unwrap();
        admin
            .batch_execute("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
            .unwrap();
        service.wait_for_reason(size, "holds a lock");
        admin.batch_execute("ROLLBACK").unwrap();
        let plan = service.plan(size).plan;
        // The statement is unknown after a migration. Its last plan is still known.
        admin
            .batch_execute("ALTER TABLE items RENAME COLUMN size TO bytes")
            .unwrap();
        service.wait_for_reason(size, "does not fit the schema");
        assert_eq!(
            service.vitals.plan(size).plan.map(|plan| plan.fingerprint),
            plan.map(|plan| plan.fingerprint)
        );
        admin
            .batch_execute("ALTER TABLE items RENAME COLUMN bytes TO size")
            .unwrap();
        service.plan(size);
        // The database is gone, and comes back.
        drop(admin);
        cluster.kill();
        service.wait_for_reason(size, "no connection");
        cluster.resume();
        service.plan(size);
    });
}

/// The application sets a role that may read the table, after it has connected as one that may not.
#[derive(Debug)]
struct SetRole;

impl CustomizeConnection<PgConnection, r2d2::Error> for SetRole {
    fn on_acquire(&self, connection: &mut PgConnection) -> Result<(), r2d2::Error> {
        let set = connection.batch_execute("SET ROLE reader");
        set.map_err(r2d2::Error::QueryError)
    }
}

#[test]
fn plans_of_a_role_that_may_not_are_turned_off() {
    on_each_version("plans without permission", |cluster| {
        let database = cluster.database();
        database.execute(ITEMS);
        database.execute(
            "CREATE ROLE reader; GRANT SELECT ON items TO reader; \
             CREATE ROLE login LOGIN NOINHERIT PASSWORD 'x' IN ROLE reader",
        );
        let url = database.url();
        let (_, host) = url.split_once('@').unwrap();
        let builder = r2d2::Pool::builder().connection_customizer(Box::new(SetRole));
        let service = Explained::with(format!("postgres://login:x@{host}"), builder);
        let numbers = [
            "SELECT id FROM items WHERE size = $1",
            "SELECT name FROM items WHERE size = $1",
            "SELECT size FROM items WHERE id = $1",
        ]
        .map(|sql| service.run(sql, 2));
        service.wait_for_reason(numbers[0], "may not do this");
        for number in numbers {
            service.vitals.plan(number);
        }
        service.wait_for_reason(numbers[0], "may set another role");
        service.wait_for_reason(numbers[2], "may set another role");
        drop(service);
        database.execute("DROP OWNED BY reader; DROP ROLE login; DROP ROLE reader");
    });
}

/// The plan of the statement that lists items, as the service answers it.
async fn plan_of_the_list(server: &Server) -> Value {
    assert_eq!(server.get("/data").await.status, 200);
    let listed = server.get("/ops/statements?text=message").await.json();
    let statement = &listed["statements"][0];
    let path = format!("/ops/statements/{}", statement["id"]);
    server.get(&path).await.json()["plan"].clone()
}

#[tokio::test]
async fn the_service_answers_plans_unless_they_are_off() {
    let server = Server::start();
    let plan = wait::until("a plan", BOUND, async || {
        let plan = plan_of_the_list(&server).await;
        (!plan["current"].is_null())
            .then(|| plan.clone())
            .ok_or(plan)
    })
    .await;
    let step = &plan["current"]["root"]["steps"][0];
    assert_eq!(step["index"], "items_newest_first", "{plan}");
    assert_eq!(plan["current"]["flags"], json!([]));
    assert_eq!(
        (&plan["reason"], &plan["changes"]),
        (&Value::Null, &json!([]))
    );

    let server = Server::start_with(&["--plans", "off"]);
    let plan = plan_of_the_list(&server).await;
    assert_eq!(plan["reason"], "plans are turned off (--plans)");
    assert_eq!(plan["current"], Value::Null);
}
