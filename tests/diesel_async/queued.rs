//! A connection of SQLite runs its queries on threads of the runtime. A future that is dropped on a worker of Actix while its
//! query waits for a thread leaves the query to run later: diesel-async would wait for it, which panics there.

use std::panic::{AssertUnwindSafe, catch_unwind};

use actix_vitals::Vitals;
use actix_vitals::database::{bb8, deadpool};
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;

use crate::app;
use crate::engine::{AsyncSqliteConnection, Engine};
use crate::pools::TestPool;

/// Runs `attempt`, which is dropped while its query waits for the only thread. Returns how many queries were counted until
/// another caller has run one.
fn queries_after_a_dropped<P>(attempt: impl AsyncFnOnce(&Vitals, &P)) -> f64
where
    P: TestPool<Connection = AsyncSqliteConnection>,
{
    let (url, _database) = AsyncSqliteConnection::database().unwrap();
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(1);
    runtime.enable_all().build().unwrap().block_on(async {
        let vitals = Vitals::builder().build().unwrap();
        let pool = P::open(&vitals, "default", &url, 1).await;
        pool.get().await.unwrap().create().await.unwrap();
        let queries = || app::scrape(&vitals).sum("db_queries_total", &[]);
        let before = queries();
        let (free, busy) = std::sync::mpsc::channel::<()>();
        let thread = spawn_blocking(move || busy.recv().is_ok());
        let mut future = Box::pin(attempt(&vitals, &pool));
        assert!(futures_util::poll!(&mut future).is_pending());
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        assert!(dropped.is_err(), "it would wait for the thread");
        free.send(()).unwrap();
        assert!(thread.await.unwrap());
        let mut connection = pool.get().await.unwrap();
        assert_eq!(connection.count().await, Ok(2));
        queries() - before
    })
}

fn a_dropped_check_is_no_query<P>()
where
    P: TestPool<Connection = AsyncSqliteConnection>,
{
    let get = async |_: &_, pool: &P| drop(pool.get().await);
    assert_eq!(queries_after_a_dropped::<P>(get), 1.0);
}

#[test]
fn a_dropped_check_of_deadpool_is_no_query() {
    a_dropped_check_is_no_query::<deadpool::Pool<AsyncSqliteConnection>>();
}

#[test]
fn a_dropped_check_of_bb8_is_no_query() {
    a_dropped_check_is_no_query::<bb8::Pool<AsyncSqliteConnection>>();
}
