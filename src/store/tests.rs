//! The store on an SQLite file of its own.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use actix_vitals::registry::Format;
use chrono::NaiveDateTime;
use diesel::{
    Connection as _, RunQueryDsl as _, SqliteConnection,
    connection::{InstrumentationEvent, SimpleConnection as _},
    dsl::sql,
    sql_types::Integer,
};
use tempfile::TempDir;

use super::*;

fn settings(path: &Path) -> DatabaseSettings {
    DatabaseSettings {
        url: DatabaseUrl::Sqlite(SqliteLocation::File(path.into())),
        pool_size: 4,
        pool_timeout: Duration::from_secs(5),
        pool_check_after: Duration::from_millis(500),
    }
}

fn open(settings: &DatabaseSettings) -> Result<Store, OpenError> {
    Store::open(settings, &Vitals::builder().build().unwrap())
}

fn new_store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&settings(&directory.path().join("test.db"))).unwrap();
    (directory, store)
}

fn fields(name: &str) -> ItemFields {
    ItemFields {
        name: name.to_owned(),
        email: "ada@example.com".to_owned(),
        message: None,
    }
}

fn at(time: &str) -> NaiveDateTime {
    time.parse().unwrap()
}

#[tokio::test]
async fn an_item_can_be_created_read_replaced_and_deleted() {
    let (_directory, store) = new_store();
    let created = store
        .create(ItemFields {
            message: Some("zażółć".to_owned()),
            ..fields("Ada")
        })
        .await
        .unwrap();
    assert_eq!(created.id, 1);
    assert_eq!(created.message.as_deref(), Some("zażółć"));
    assert_eq!(store.find(1).await.unwrap(), Some(created.clone()));

    let replaced = store.replace(1, fields("Grace")).await.unwrap().unwrap();
    assert_eq!(replaced.name, "Grace");
    assert_eq!(replaced.message, None);
    assert_eq!(replaced.created_at, created.created_at);

    assert_eq!(store.delete(1).await.unwrap(), Some(replaced));
    assert_eq!(store.find(1).await.unwrap(), None);
    assert_eq!(store.replace(1, fields("Ada")).await.unwrap(), None);
    assert_eq!(store.delete(1).await.unwrap(), None);
    assert_eq!(store.create(fields("Ada")).await.unwrap().id, 2);
}

/// A page of the list without a limit of bytes.
async fn listed(store: &Store, skip: i64, limit: i64) -> Vec<Item> {
    let wanted = PageRequest {
        after: None,
        skip,
        limit,
        bytes: 1_000_000,
    };
    store.list(wanted, |page| page.items).await.unwrap()
}

/// All pages of the list.
async fn pages(store: &Store, limit: i64, bytes: usize) -> Vec<Vec<Item>> {
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let wanted = PageRequest {
            after,
            skip: 0,
            limit,
            bytes,
        };
        let page = store.list(wanted, |page| page).await.unwrap();
        pages.push(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn pages_that_end_early_contain_every_item_once() {
    let (_directory, store) = new_store();
    // Some items have the same time, some are long, and one is longer than a page.
    for number in 0..40 {
        let length = match number {
            7 => 5_000,
            number if number % 3 == 0 => 900,
            _ => 10,
        };
        let fields = ItemFields {
            message: (number % 5 > 0).then(|| "m".repeat(length)),
            ..fields("x")
        };
        let time = at(&format!("2026-01-01T12:00:{:02}", number / 4));
        store
            .connections
            .write(move |connection| queries::insert(connection, &fields, time))
            .await
            .unwrap();
    }
    let all = listed(&store, 0, 1000).await;
    assert_eq!(all.len(), 40);
    for (limit, bytes) in [
        (1000, 1_500),
        (1, 1_500),
        (3, 100_000),
        (40, 100_000),
        (39, 950),
    ] {
        let pages = pages(&store, limit, bytes).await;
        assert_eq!(pages.concat(), all, "{limit}, {bytes}");
        for page in &pages {
            let texts = page.iter().map(|item| {
                let message = item.message.as_ref().map_or(0, String::len);
                item.name.len() + item.email.len() + message
            });
            let texts: usize = texts.sum();
            assert!(texts <= bytes || page.len() == 1, "{texts} in {bytes}");
            assert!(!page.is_empty() && page.len() <= usize::try_from(limit).unwrap());
        }
    }
    assert_eq!(
        pages(&store, 40, 100_000).await.len(),
        1,
        "no link to an empty page"
    );
}

#[tokio::test]
async fn the_next_page_starts_after_a_deleted_item_and_lacks_new_ones() {
    let (_directory, store) = new_store();
    for _ in 0..4 {
        store.create(fields("x")).await.unwrap();
    }
    let wanted = |after| PageRequest {
        after,
        skip: 0,
        limit: 2,
        bytes: 1000,
    };
    let first = store.list(wanted(None), |page| page).await.unwrap();
    let last = first.items[1].id;
    store.delete(last).await.unwrap();
    store.create(fields("new")).await.unwrap();
    let rest = store.list(wanted(first.next), |page| page).await.unwrap();
    let ids: Vec<i64> = rest.items.iter().map(|item| item.id).collect();
    assert_eq!(ids, [2, 1]);
    assert_eq!(rest.next, None);
}

#[tokio::test]
async fn a_list_is_encoded_on_the_thread_that_read_it() {
    let (_directory, store) = new_store();
    let wanted = PageRequest {
        after: None,
        skip: 0,
        limit: 1,
        bytes: 1,
    };
    let encoded_on = store
        .list(wanted, |_| std::thread::current().id())
        .await
        .unwrap();
    assert_ne!(encoded_on, std::thread::current().id());
}

#[tokio::test]
async fn the_list_is_sorted_by_time_in_microseconds_and_then_by_id() {
    let (_directory, store) = new_store();
    let times = [
        "2026-01-01T12:00:00.5",
        "2026-01-01T12:00:00",
        "2026-01-01T12:00:00.499999",
        "2026-01-01T12:00:00.500001",
        "2026-01-01T12:00:00.5",
        "2025-12-31T23:59:59.999999",
    ];
    for time in times {
        store
            .connections
            .write(move |connection| queries::insert(connection, &fields("x"), at(time)))
            .await
            .unwrap();
    }
    let all = listed(&store, 0, 100).await;
    let ids: Vec<i64> = all.iter().map(|item| item.id).collect();
    assert_eq!(ids, [4, 5, 1, 3, 2, 6]);
    for item in &all {
        let index = usize::try_from(item.id - 1).unwrap();
        assert_eq!(item.created_at, at(times[index]));
    }
    let page = listed(&store, 1, 2).await;
    assert_eq!(page, all[1..3]);
    assert_eq!(listed(&store, 6, 10).await, []);
    assert_eq!(listed(&store, i64::MAX, 1000).await, []);
}

#[tokio::test]
async fn a_second_start_finds_the_data() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(&directory.path().join("test.db"));
    let created = open(&settings)
        .unwrap()
        .create(fields("Ada"))
        .await
        .unwrap();
    let again = open(&settings).unwrap();
    assert_eq!(again.find(created.id).await.unwrap(), Some(created));
}

#[tokio::test]
async fn every_connection_is_configured_for_durability() {
    let (_directory, store) = new_store();
    let setup = store
        .connections
        .write(|connection| {
            use diesel::RunQueryDsl as _;
            use diesel::dsl::sql;
            use diesel::sql_types::{Integer, Text};
            Ok((
                sql::<Text>("PRAGMA journal_mode").get_result::<String>(connection)?,
                sql::<Integer>("PRAGMA synchronous").get_result::<i32>(connection)?,
                sql::<Integer>("PRAGMA foreign_keys").get_result::<i32>(connection)?,
                sql::<Integer>("PRAGMA busy_timeout").get_result::<i32>(connection)?,
            ))
        })
        .await
        .unwrap();
    assert_eq!(setup, ("wal".to_owned(), 2, 1, 5000));
}

#[tokio::test]
async fn a_database_in_memory_keeps_its_items() {
    let store = open(&DatabaseSettings {
        url: DatabaseUrl::Sqlite(SqliteLocation::Memory),
        pool_size: 10,
        pool_timeout: Duration::from_secs(5),
        pool_check_after: Duration::from_millis(500),
    })
    .unwrap();
    let writes: Vec<_> = (0..20)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.create(fields("Ada")).await.unwrap() })
        })
        .collect();
    for write in writes {
        write.await.unwrap();
    }
    assert_eq!(listed(&store, 0, 100).await.len(), 20);
}

#[tokio::test]
async fn concurrent_writers_all_succeed() {
    let (_directory, store) = new_store();
    let writes: Vec<_> = (0..200)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.create(fields("Ada")).await.unwrap().id })
        })
        .collect();
    let mut ids = Vec::new();
    for write in writes {
        ids.push(write.await.unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn writers_wait_for_another_process_for_the_pool_timeout_and_count_no_query_without_a_turn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    let vitals = Vitals::builder().build().unwrap();
    let settings = DatabaseSettings {
        pool_size: 6,
        pool_timeout: Duration::from_secs(1),
        ..settings(&path)
    };
    let store = Store::open(&settings, &vitals).unwrap();
    let mut other = diesel::SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();

    let started = Instant::now();
    // The last one has its turn when the first one gives up, and then waits for the lock for less than the timeout.
    let pauses = [0, 0, 500].map(Duration::from_millis);
    let writes = pauses.map(|pause| {
        let store = store.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            store.create(fields("Ada")).await
        })
    });
    let mut busy = 0;
    for write in writes {
        match write.await.unwrap() {
            Err(StoreError::Busy) => busy += 1,
            result => assert!(matches!(result, Err(StoreError::Overloaded)), "{result:?}"),
        }
    }
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "far more than the timeout"
    );
    assert!(busy > 1, "no late one had its turn");
    let metrics = String::from_utf8(vitals.registry().encode(Format::Text)).unwrap();
    let errors: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("db_query_errors_total{") && !line.ends_with(" 0"))
        .collect();
    let expected =
        format!(r#"db_query_errors_total{{operation="insert",kind="busy",pool="writers"}} {busy}"#);
    assert_eq!(errors, [expected]);

    other.batch_execute("COMMIT").unwrap();
    store.create(fields("Ada")).await.unwrap();
    assert_eq!(lock_timeout(&store).await, 1000, "also after a late writer");
}

/// How long the connection of writers waits for SQLite's lock, in milliseconds.
async fn lock_timeout(store: &Store) -> i32 {
    let timeout = store.connections.write(|connection| {
        sql::<Integer>("SELECT timeout FROM pragma_busy_timeout").get_result(connection)
    });
    timeout.await.unwrap()
}

#[tokio::test]
async fn a_failed_commit_is_an_error() {
    let (_directory, store) = new_store();
    let result = store
        .connections
        .write(|connection| {
            // The commit checks a deferred constraint, as it would fail on a full disk.
            connection.batch_execute(
                "CREATE TABLE owners (item BIGINT REFERENCES items DEFERRABLE INITIALLY DEFERRED);
                 CREATE TRIGGER orphan AFTER INSERT ON items BEGIN INSERT INTO owners VALUES (-1); END;",
            )?;
            queries::insert(connection, &fields("Ada"), now())
        })
        .await;
    assert!(matches!(result, Err(StoreError::Database(_))), "{result:?}");
    assert_eq!(listed(&store, 0, 100).await, []);
}

#[tokio::test]
async fn a_pool_without_a_free_connection_is_overloaded() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&DatabaseSettings {
        pool_size: 1,
        // The pool opens its connection within that time, too.
        pool_timeout: Duration::from_millis(500),
        ..settings(&directory.path().join("test.db"))
    })
    .unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (taken, mut has_taken) = tokio::sync::mpsc::unbounded_channel();
    let holder = store.clone();
    let holder = tokio::spawn(async move {
        holder
            .connections
            .read(
                |_| Ok(()),
                move |()| {
                    taken.send(()).unwrap();
                    held.recv().ok();
                },
            )
            .await
    });
    has_taken.recv().await.unwrap();
    assert!(matches!(store.find(1).await, Err(StoreError::Overloaded)));
    release.send(()).unwrap();
    holder.await.unwrap().unwrap();
    assert_eq!(store.find(1).await.unwrap(), None);
}

#[test]
fn the_error_of_an_unusable_database_is_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text.db");
    std::fs::write(&text, "This is not a database. ".repeat(100)).unwrap();
    let foreign = directory.path().join("foreign.db");
    diesel::SqliteConnection::establish(foreign.to_str().unwrap())
        .unwrap()
        .batch_execute("CREATE TABLE items (id TEXT)")
        .unwrap();
    for (path, words) in [
        (directory.path().join("missing/test.db"), "cannot be opened"),
        (directory.path().to_path_buf(), "cannot be opened"),
        (text, "cannot be used: file is not a database"),
        (foreign, "cannot be migrated"),
    ] {
        let sentence = open(&settings(&path)).unwrap_err().to_string();
        assert!(sentence.contains(words), "{sentence}");
        assert!(sentence.starts_with("The SQLite database /"), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
    }
}

#[test]
fn the_message_of_a_driver_is_one_line_without_its_questions() {
    let refused = "connection to server at \"127.0.0.1\", port 1 failed: Connection refused\n\
        \tIs the server running on that host and accepting TCP/IP connections?\n";
    for (message, line) in [
        (
            refused,
            "connection to server at \"…\", port 1 failed: Connection refused",
        ),
        ("One.\n\n  Two.\n", "One; Two"),
        ("file is not a database", "file is not a database"),
    ] {
        assert_eq!(one_line(message), line);
    }
}

#[test]
fn a_check_that_the_file_is_writable_undoes_no_change_of_another_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    let settings = settings(&path);
    drop(open(&settings).unwrap());
    let mut other = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let mut connection = connection::open(&settings.url).unwrap();
    let changed = Arc::new(OnceLock::new());
    let result = Arc::clone(&changed);
    connection.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::FinishQuery { query, .. } = event
            && query.to_string().starts_with("SELECT user_version FROM")
        {
            result
                .set(other.batch_execute("PRAGMA user_version = 7"))
                .unwrap();
        }
    });
    queries::probe_writing(&mut connection, Duration::ZERO).unwrap();
    let is_changed = changed.get().expect("the version was read").is_ok();
    let version: i32 = sql::<Integer>("SELECT user_version AS version FROM pragma_user_version")
        .get_result(&mut connection)
        .unwrap();
    assert_eq!(version, if is_changed { 7 } else { 0 });
}

/// Health checks do not wait for a busy writer.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_last_write_failed_is_not_ready_while_its_writer_is_busy() {
    use actix_web::{App, test};
    use diesel::result::{DatabaseErrorKind, Error};

    let directory = tempfile::tempdir().unwrap();
    let vitals = Vitals::builder().build().unwrap();
    let store = Store::open(&settings(&directory.path().join("test.db")), &vitals).unwrap();
    let ops = test::init_service(App::new().configure(vitals.ops())).await;
    for (kind, status, why) in [
        (None, 200, "the write succeeded"),
        (Some(DatabaseErrorKind::CheckViolation), 200, "its client"),
        (Some(DatabaseErrorKind::Unknown), 503, "the disk"),
        (None, 200, "the disk has room again"),
    ] {
        let failure = |kind| Error::DatabaseError(kind, Box::new("a message".to_owned()));
        let write = move |_: &mut Connection| kind.map(failure).map_or(Ok(()), Err);
        assert_eq!(
            store.connections.write(write).await.is_err(),
            kind.is_some()
        );
        let (taken, has_taken) = std::sync::mpsc::channel();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let busy = store.clone();
        let busy = std::thread::spawn(move || {
            busy.connections.run_here(|_| {
                taken.send(()).unwrap();
                held.recv().unwrap();
            })
        });
        has_taken.recv().unwrap();
        let ready = test::TestRequest::with_uri("/readyz").to_request();
        let answer = test::call_service(&ops, ready).await;
        assert_eq!(answer.status(), status, "{why}");
        release.send(()).unwrap();
        busy.join().unwrap().unwrap();
    }
}
