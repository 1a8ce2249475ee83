//! Health checks: whether a pool is ready.

use super::*;

/// What `/readyz` asks, with a bound: it must not wait for a connection.
async fn ping(fixture: &Fixture) -> Option<bool> {
    let asked = fixture.database.levels().ping();
    let answer = tokio::time::timeout(Duration::from_secs(4), asked).await;
    answer
        .expect("a probe does not wait")
        .map(|answer| answer.is_ok())
}

#[actix_web::test]
async fn without_a_pool_nothing_is_asked() {
    let fixture = Fixture::new();
    assert_eq!(ping(&fixture).await, None);
    let pooled = pooled_with(fixture, 0, of_size(1));
    assert_eq!(ping(&pooled.fixture).await, Some(true));
    let Pooled { fixture, pool, .. } = pooled;
    drop(pool);
    until("the pool is closed", || levels(&fixture).is_none());
    assert_eq!(ping(&fixture).await, None);
}

#[actix_web::test]
async fn a_busy_pool_is_ready_and_a_probe_is_in_none_of_its_families() {
    let pooled = pooled_with(Fixture::new(), 0, of_size(2));
    let held = [pooled.pool.get().unwrap(), pooled.pool.get().unwrap()];
    let before = pooled.fixture.open_metrics();
    // Longer than an answer counts as recent.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for _ in 0..3 {
        assert_eq!(ping(&pooled.fixture).await, Some(true));
    }
    assert_eq!(pooled.fixture.open_metrics(), before);
    drop(held);
    let before = pooled.fixture.open_metrics();
    assert_eq!(ping(&pooled.fixture).await, Some(true));
    assert_eq!(pooled.fixture.open_metrics(), before);
}

#[actix_web::test]
async fn a_pool_without_idle_connections_is_ready() {
    let pooled = pooled(|builder| of_size(2)(builder).min_idle(Some(0)));
    assert_eq!(pooled.levels(), Some([0.0, 0.0, 2.0]));
    assert_eq!(ping(&pooled.fixture).await, Some(true));
    assert_eq!(pooled.levels(), Some([0.0, 0.0, 2.0]));
}

#[actix_web::test]
async fn a_busy_pool_with_a_lost_database_is_not_ready() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pool.db");
    let pool = fixture
        .database
        .instrument(of_size(1)(r2d2::Pool::builder()))
        .build(ConnectionManager::<SqliteConnection>::new(
            path.to_str().unwrap(),
        ))
        .unwrap();
    let _held = pool.get().unwrap();
    directory.close().unwrap();
    soon_not_ready(&fixture).await;
}

/// A pool of one connection, after which the opener fails with this message.
fn pool_with_one_opening(fixture: &Fixture, message: &'static str) -> Pool<SqliteConnection> {
    let opened = AtomicU32::new(0);
    fixture
        .database
        .instrument(of_size(1)(r2d2::Pool::builder()))
        .opener(move || match opened.fetch_add(1, Ordering::SeqCst) {
            0 => SqliteConnection::establish(":memory:"),
            _ => Err(ConnectionError::BadConnection(message.to_owned())),
        })
        .build(ConnectionManager::new(""))
        .unwrap()
}

#[actix_web::test]
async fn a_busy_pool_that_uses_all_connections_of_its_database_is_ready() {
    for (message, is_ready) in [
        ("FATAL:  sorry, too many clients already", true),
        ("FATAL:  too many connections for role \"app\"", true),
        (
            "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
            true,
        ),
        (
            "FATAL:  no more connections allowed (max_client_conn)",
            true,
        ),
        ("Too many connections", true),
        (
            "User 'app' has exceeded the 'max_user_connections' resource (current value: 5)",
            true,
        ),
        ("FATAL:  the database system is shutting down", false),
        ("connection refused", false),
    ] {
        let fixture = Fixture::new();
        let pool = pool_with_one_opening(&fixture, message);
        let _held = pool.get().unwrap();
        // Longer than an answer counts as recent.
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(ping(&fixture).await, Some(is_ready), "{message}");
    }
}

async fn soon_not_ready(fixture: &Fixture) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while ping(fixture).await == Some(true) {
        assert!(Instant::now() < deadline, "never: not ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_web::test]
async fn the_health_check_of_the_pool_decides_if_a_connection_is_idle() {
    let fixture = Fixture::new();
    let pool = fixture
        .database
        .instrument(of_size(1)(r2d2::Pool::builder()))
        .health_check(|connection| items::table.count().get_result::<i64>(connection).map(drop))
        .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
        .unwrap();
    assert_eq!(ping(&fixture).await, Some(false), "there is no table");
    create_table(&mut pool.get().unwrap());
    let of_pool = || {
        let text = fixture.open_metrics();
        let lines = text.lines().filter(|line| line.starts_with("db_pool_"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (before, queries) = (of_pool(), fixture.queries());
    let mut context = None;
    let mut asked = std::pin::pin!(ping(&fixture));
    let asked =
        std::future::poll_fn(|cx| context::within(&mut context, || asked.as_mut().poll(cx)));
    assert_eq!(asked.await, Some(true));
    assert_eq!(of_pool(), before);
    assert_ne!(fixture.queries(), queries);
    assert_eq!(
        context.unwrap().queries(),
        1,
        "it belongs to the request that asks"
    );
    // On a listener that records no requests, it is deliberately unattributed.
    let (queries, before) = (fixture.queries(), unattributed(&fixture));
    assert_eq!(ping(&fixture).await, Some(true));
    assert_ne!(fixture.queries(), queries);
    assert!(!before.is_empty());
    assert_eq!(unattributed(&fixture), before);
}

fn unattributed(fixture: &Fixture) -> Vec<String> {
    let text = fixture.open_metrics();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("db_queries_unattributed_total"));
    lines.map(str::to_owned).collect()
}

#[actix_web::test]
async fn a_health_check_that_hangs_holds_at_most_one_connection() {
    let fixture = Fixture::new();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let pool = fixture
        .database
        .instrument(of_size(3)(r2d2::Pool::builder()))
        .health_check(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            wait.lock().unwrap().recv().ok();
            Ok(())
        })
        .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
        .unwrap();
    for _ in 0..5 {
        let asked = fixture.database.levels().ping();
        let answer = tokio::time::timeout(Duration::from_millis(50), asked).await;
        assert!(answer.is_err(), "it hangs");
    }
    until("it is asked", || asked.load(Ordering::SeqCst) > 0);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(
        levels(&fixture),
        Some([0.0, 3.0, 3.0]),
        "idle to all others"
    );
    let _two = [pool.get().unwrap(), pool.get().unwrap()];
    drop(go_on);
    assert_eq!(ping(&fixture).await, Some(true));
}
