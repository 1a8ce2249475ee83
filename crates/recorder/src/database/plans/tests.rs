//! Plans as they are kept, and those of a real SQLite.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{self, ConnectionManager};
use diesel::sql_query;
use vitals_registry::Distribution;

use super::*;
use crate::database::connection::fixture::{Fixture, items};
use crate::database::{Database, Order, Pool};

fn plan(fingerprint: &str) -> Plan {
    let now = SystemTime::now();
    Plan {
        root: PlanStep::default(),
        flags: Vec::new(),
        fingerprint: fingerprint.to_owned(),
        since: now,
        checked: now,
    }
}

#[test]
fn a_change_has_the_plan_before_and_the_p95_of_both() {
    let calls = Distribution::default();
    let observe = |seconds: f64| (0..20).for_each(|_| calls.observe(seconds));
    let near = |found: Option<f64>, expected: f64| {
        assert!(
            found.is_some_and(|found| (found / expected - 1.0).abs() < 0.05),
            "{found:?} is not {expected}"
        );
    };
    let mut kept = KeptPlan::default();
    observe(8.0);
    assert!(!kept.take(Ok(plan("a")), calls.snapshot()));
    observe(1.0);
    assert!(!kept.take(Ok(plan("a")), calls.snapshot()));
    let since = kept.plan.as_ref().unwrap().since;
    // Calls between the two looks may have had either plan.
    observe(2.0);
    assert!(kept.take(Ok(plan("b")), calls.snapshot()));
    let report = kept.report(&calls.snapshot());
    assert_eq!(report.changes[0].p95_after, None);
    observe(4.0);
    // No answer changes nothing.
    assert!(!kept.take(Err("locked"), calls.snapshot()));
    let report = kept.report(&calls.snapshot());
    assert_eq!(report.plan.unwrap().fingerprint, "b");
    assert_eq!(report.reason.as_deref(), Some("locked"));
    let [change] = report.changes.as_slice() else {
        panic!("{:?}", report.changes);
    };
    assert_eq!(
        (&*change.before.fingerprint, change.before.since),
        ("a", since)
    );
    near(change.p95_before, 1.0);
    near(change.p95_after, 4.0);
    assert!(!kept.take(Ok(plan("b")), calls.snapshot()));
    for (index, name) in ["c", "d", "e", "f"].into_iter().enumerate() {
        observe(0.5);
        assert!(kept.take(Ok(plan(name)), calls.snapshot()));
        let changes = kept.report(&calls.snapshot()).changes;
        assert_eq!(changes.len(), (index + 2).min(MOST_CHANGES));
        if let Some(before) = changes.get(1).filter(|_| index == 0) {
            near(before.p95_after, 4.0);
        }
    }
}

#[test]
fn the_number_of_plans_is_bounded_and_the_oldest_gives_way() {
    let fixture = Fixture::new();
    let plans = Plans::new(true, Arc::clone(&fixture.families.plan_changes));
    let most = u32::try_from(MOST_STATEMENTS).unwrap();
    for number in 1..=most + 10 {
        let number = NonZeroU32::new(number).unwrap();
        plans.keep(number, Ok(plan("a")), HistogramSnapshot::default());
    }
    let kept = plans.kept();
    assert_eq!(kept.len(), MOST_STATEMENTS);
    assert_eq!(kept.keys().min().unwrap().get(), 11);
}

#[test]
fn no_clock_that_goes_back_and_no_missing_plan_decides_which_plan_is_kept() {
    let fixture = Fixture::new();
    let plans = Plans::new(true, Arc::clone(&fixture.families.plan_changes));
    let most = u32::try_from(MOST_STATEMENTS).unwrap();
    let keep = |number, answer| {
        let number = NonZeroU32::new(number).unwrap();
        plans.keep(number, answer, HistogramSnapshot::default());
    };
    for number in 1..=most {
        let mut plan = plan("a");
        plan.checked += Duration::from_secs(3600);
        keep(number, Ok(plan));
    }
    keep(1, Err("locked"));
    for number in most + 1..=most + 5 {
        keep(number, Ok(plan("a")));
        keep(number + 5, Err("locked"));
    }
    let kept = plans.kept();
    for number in [1].into_iter().chain(most + 1..=most + 10) {
        let number = NonZeroU32::new(number).unwrap();
        assert!(kept.contains_key(&number), "{number}");
    }
    assert_eq!(kept.len(), MOST_STATEMENTS);
}

/// A pool of one connection to a file, whose statements are explained.
fn explained(database: &Database, directory: &tempfile::TempDir) -> Pool<SqliteConnection> {
    let path = directory.path().join("items.db").display().to_string();
    let pool = database
        .instrument(r2d2::Pool::builder().max_size(1))
        .build(ConnectionManager::<SqliteConnection>::new(path))
        .unwrap();
    let mut connection = pool.get().unwrap();
    connection
        .batch_execute(
            "PRAGMA journal_mode = WAL; \
             CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL); \
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) \
             INSERT INTO items SELECT i, 'name' || i FROM n",
        )
        .unwrap();
    drop(connection);
    pool
}

/// Asks for the plan of the statement that begins so, until `is_it` is true.
fn wait_for(database: &Database, begin: &str, is_it: impl Fn(&PlanReport) -> bool) -> PlanReport {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let reports = database.statements().report(Order::Total, 100);
        let found = reports.iter().find(|one| one.statement.starts_with(begin));
        let report = database.plan(found.unwrap().number.unwrap());
        if is_it(&report) {
            return report;
        }
        assert!(Instant::now() < deadline, "{report:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kinds(report: &PlanReport) -> Vec<PlanFlagKind> {
    let flags = report.plan.iter().flat_map(|plan| &plan.flags);
    flags.map(|flag| flag.kind).collect()
}

#[test]
fn a_missing_index_is_found_and_its_creation_is_a_change() {
    let fixture = Fixture::new();
    let database = fixture.database.clone().with_plans(true);
    let directory = tempfile::tempdir().unwrap();
    let pool = explained(&database, &directory);
    let find = || {
        let found = items::table.filter(items::name.eq("name77"));
        let mut connection = pool.get().unwrap();
        assert_eq!(found.count().get_result(&mut connection), Ok(1_i64));
    };
    (0..20).for_each(|_| find());
    let report = wait_for(&database, "SELECT COUNT", |report| report.plan.is_some());
    assert_eq!(
        kinds(&report),
        [PlanFlagKind::SequentialScan, PlanFlagKind::MissingIndex]
    );
    let plan = report.plan.unwrap();
    assert_eq!(plan.root.steps[0].table_rows, Some(20_000.0));
    assert_eq!(
        plan.flags[1].advice.as_deref(),
        Some("CREATE INDEX items_name_idx ON items (name)")
    );
    assert!(report.changes.is_empty() && report.reason.is_none());
    assert_eq!(fixture.families.plan_changes.value(), 0);

    let advice = plan.flags[1].advice.as_deref().unwrap();
    pool.get().unwrap().batch_execute(advice).unwrap();
    (0..20).for_each(|_| find());
    let report = wait_for(&database, "SELECT COUNT", |report| {
        !report.changes.is_empty()
    });
    assert_eq!(kinds(&report), []);
    let search = &report.plan.unwrap().root.steps[0];
    assert_eq!(search.index.as_deref(), Some("items_name_idx"));
    assert_eq!(search.index_columns, ["name"]);
    assert_eq!(report.changes[0].before.flags, plan.flags);
    assert!(report.changes[0].p95_before > Some(0.0));
    assert_eq!(fixture.families.plan_changes.value(), 1);
}

#[test]
fn the_index_in_place_of_an_automatic_one_can_be_created() {
    let fixture = Fixture::new();
    let database = fixture.database.clone().with_plans(true);
    let directory = tempfile::tempdir().unwrap();
    let pool = explained(&database, &directory);
    let run = |sql: &str| pool.get().unwrap().batch_execute(sql).unwrap();
    run("CREATE TABLE `order` (`group` TEXT, `two words` TEXT); \
         INSERT INTO `order` SELECT name, name FROM items LIMIT 5000");
    run("SELECT name FROM items LEFT JOIN `order` ON `group` = name AND `two words` = name");
    let report = wait_for(&database, "SELECT name", |report| report.plan.is_some());
    let flags = report.plan.unwrap().flags;
    let automatic = |flag: &&PlanFlag| flag.kind == PlanFlagKind::AutomaticIndex;
    let advice = flags
        .iter()
        .find(automatic)
        .unwrap()
        .advice
        .clone()
        .unwrap();
    assert!(
        advice.contains(r#" ON "order" ("group", "two words")"#),
        "{advice}"
    );
    run(&advice);
}

#[test]
fn a_statement_that_cannot_be_explained_has_a_reason() {
    let fixture = Fixture::new();
    let database = fixture.database.clone().with_plans(true);
    let directory = tempfile::tempdir().unwrap();
    let pool = explained(&database, &directory);
    let run = |sql: &str| {
        let mut connection = pool.get().unwrap();
        sql_query(sql).execute(&mut connection).unwrap();
    };
    run("SELECT id FROM items WHERE name = 'secret'");
    run("PRAGMA optimize");
    for (begin, expected) in [
        ("SELECT id FROM items WHERE name", "literals"),
        ("PRAGMA", "only SELECT"),
    ] {
        let report = wait_for(&database, begin, |report| report.reason.is_some());
        assert_eq!(report.plan, None);
        let reason = report.reason.unwrap();
        assert!(reason.contains(expected), "{reason}");
    }
    // After a migration, the statement is unknown.
    run("SELECT name FROM items");
    pool.get()
        .unwrap()
        .batch_execute("ALTER TABLE items RENAME TO things")
        .unwrap();
    wait_for(&database, "SELECT name FROM items", |report| {
        let reason = report.reason.as_deref();
        reason.is_some_and(|reason| reason.contains("does not fit the schema"))
    });
}

#[test]
fn a_database_in_memory_and_unknown_systems_are_not_explained() {
    let fixture = Fixture::new();
    let database = fixture.database.clone().with_plans(true);
    for (name, system, expected) in [
        ("memory", "sqlite", "in memory"),
        ("maria", "mariadb", "MySQL and MariaDB"),
        ("other", "other_sql", "not known"),
    ] {
        let pool = database
            .instrument(r2d2::Pool::builder().max_size(1))
            .name(name)
            .system(system)
            .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
            .unwrap();
        let mut connection = pool.get().unwrap();
        let sql = format!("SELECT NULL AS {name}");
        sql_query(&sql).execute(&mut connection).unwrap();
        let report = wait_for(&database, &sql, |report| {
            let reason = report.reason.as_deref();
            reason.is_some_and(|reason| !reason.contains("has not been asked"))
        });
        assert!(
            report.reason.as_ref().unwrap().contains(expected),
            "{report:?}"
        );
    }
    // Turned off for all.
    let off = fixture.database.clone();
    let number = NonZeroU32::MIN;
    assert!(off.plan(number).reason.unwrap().contains("--plans"));
}

/// Statements that would change the database if they ran. Explained many times, they change nothing.
#[test]
fn explaining_executes_nothing() {
    let fixture = Fixture::new();
    let database = fixture.database.clone().with_plans(true);
    let directory = tempfile::tempdir().unwrap();
    let pool = explained(&database, &directory);
    let mut connection = pool.get().unwrap();
    connection
        .batch_execute(
            "CREATE TABLE log (what TEXT); \
             CREATE TRIGGER changed AFTER UPDATE ON items BEGIN INSERT INTO log VALUES ('update'); END; \
             CREATE TRIGGER removed AFTER DELETE ON items BEGIN INSERT INTO log VALUES (random()); END; \
             CREATE TRIGGER added AFTER INSERT ON items BEGIN DELETE FROM items WHERE id = new.id - 1; END; \
             CREATE VIEW names AS SELECT name FROM items; \
             CREATE TRIGGER through INSTEAD OF INSERT ON names BEGIN INSERT INTO items (name) VALUES (new.name); END",
        )
        .unwrap();
    let statements = [
        "UPDATE items SET name = name",
        "DELETE FROM items",
        "INSERT INTO items (name) SELECT name FROM items",
        "INSERT OR REPLACE INTO items SELECT id, name FROM items",
        "INSERT INTO names SELECT name FROM items",
        "WITH gone AS (SELECT id FROM items) DELETE FROM items WHERE id IN (SELECT id FROM gone)",
        "UPDATE items SET name = NULL RETURNING id",
        "SELECT random(), name FROM items",
    ];
    // Each is known to the table of statements without having changed anything: its transaction is rolled back.
    for sql in statements {
        connection
            .transaction(|connection| {
                let _failed = sql_query(sql).execute(connection);
                Err::<(), _>(diesel::result::Error::RollbackTransaction)
            })
            .unwrap_err();
    }
    let state = |connection: &mut SqliteConnection| {
        #[derive(QueryableByName, PartialEq, Debug)]
        struct State {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            items: i64,
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            names: i64,
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            logged: i64,
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            version: i64,
        }
        let state: State = sql_query(
            "SELECT (SELECT count(*) FROM items) AS items, (SELECT sum(length(name)) FROM items) AS names, \
             (SELECT count(*) FROM log) AS logged, data_version AS version FROM pragma_data_version",
        )
        .get_result(connection)
        .unwrap();
        state
    };
    let before = state(&mut connection);
    for sql in statements {
        let begin = sql.split(" SELECT").next().unwrap();
        let report = wait_for(&database, begin, |report| {
            report.reason.as_deref() != Some(WAITING)
        });
        assert_eq!(report.reason, None, "{sql}");
        assert!(
            !report.plan.unwrap().root.steps.is_empty() || sql.starts_with("INSERT"),
            "{sql}"
        );
    }
    // `data_version` changes with any commit of another connection.
    assert_eq!(state(&mut connection), before);
}
