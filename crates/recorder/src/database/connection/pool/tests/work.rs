//! The work that callers run on a connection, and its errors.

use super::*;

#[actix_web::test]
async fn work_runs_on_a_connection_of_the_pool() {
    let pooled = pooled(of_size(2));
    let id = pooled
        .pool
        .run(|connection| insert_returning(connection, "a"))
        .await
        .unwrap();
    assert_eq!(id, 1);
    assert_eq!(pooled.fixture.queries(), [("insert".to_owned(), 1)]);
    assert_eq!(
        (pooled.waits(), pooled.holds(), pooled.waiters()),
        (1, 1, 0)
    );
    assert_eq!(pooled.levels(), Some([0.0, 2.0, 2.0]));
}

#[derive(Debug, thiserror::Error)]
#[error("the name is taken")]
struct NameTaken(#[source] Error);

#[actix_web::test]
async fn the_error_of_the_work_is_returned_and_counted_once() {
    let pooled = pooled(of_size(1));
    pooled
        .pool
        .run(|connection| insert(connection, "a"))
        .await
        .unwrap();
    let error = pooled
        .pool
        .run(|connection| insert_returning(connection, "a").map_err(NameTaken))
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::Query(NameTaken(_))));
    let reported = pooled
        .pool
        .run(|connection| insert(connection, "a"))
        .await
        .unwrap_err();
    assert!(matches!(
        reported,
        RunError::Query(Error::DatabaseError(..))
    ));
    let missing = pooled
        .pool
        .run(|connection| items::table.find(9).first::<(i32, String)>(connection))
        .await
        .unwrap_err();
    assert!(matches!(missing, RunError::Query(Error::NotFound)));
    assert_eq!(
        pooled.fixture.errors(),
        [("insert".to_owned(), "unique_violation".to_owned(), 2)]
    );
}

#[actix_web::test]
async fn errors_of_every_type_are_returned_and_counted_once() {
    let pooled = pooled(of_size(1));
    let pool = &pooled.pool;
    pool.run(|connection| insert(connection, "a"))
        .await
        .unwrap();
    let of_anyhow = pool
        .run(|connection| -> anyhow::Result<_> { Ok(insert_returning(connection, "a")?) })
        .await;
    assert!(matches!(of_anyhow, Err(RunError::Query(_))));
    let boxed = pool
        .run(
            |connection| -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
                Ok(insert_returning(connection, "a")?)
            },
        )
        .await;
    assert!(matches!(boxed, Err(RunError::Query(_))));
    // A string has no source; Diesel has reported this error.
    let in_words = pool
        .run(|connection| insert(connection, "a").map_err(|error| error.to_string()))
        .await;
    let Err(RunError::Query(words)) = in_words else {
        panic!("no error of the work");
    };
    assert_eq!(words, "UNIQUE constraint failed: items.name");
    assert_eq!(
        pooled.fixture.errors(),
        [("insert".to_owned(), "unique_violation".to_owned(), 3)]
    );
}

/// Sets a connection up by a statement.
#[derive(Debug)]
struct SetUp;

impl CustomizeConnection<SqliteConnection, r2d2::Error> for SetUp {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), r2d2::Error> {
        connection
            .batch_execute("PRAGMA foreign_keys = ON")
            .map_err(r2d2::Error::QueryError)
    }
}

#[actix_web::test]
async fn an_error_of_work_without_a_query_is_not_counted_for_the_customizer() {
    let pooled = pooled(|builder| of_size(1)(builder).connection_customizer(Box::new(SetUp)));
    let error = pooled
        .pool
        .run(|_| {
            Err::<(), _>(Error::DatabaseError(
                DatabaseErrorKind::Unknown,
                Box::new("database is locked".to_owned()),
            ))
        })
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::Query(Error::DatabaseError(..))));
    assert_eq!(pooled.fixture.errors(), []);
}

#[actix_web::test]
async fn work_that_has_started_finishes_without_its_caller() {
    let pooled = pooled(of_size(1));
    let (signal, begun) = tokio::sync::oneshot::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let mut leaver = Box::pin(pooled.pool.run(move |connection| {
        signal.send(()).ok();
        wait.recv().ok();
        insert(connection, "a")
    }));
    tokio::select! {
        _ = &mut leaver => panic!("the work is paused"),
        begun = begun => begun.unwrap(),
    }
    drop(leaver);
    go_on.send(()).unwrap();
    let count = pooled
        .pool
        .run(|connection| items::table.count().get_result::<i64>(connection))
        .await
        .unwrap();
    assert_eq!(count, 1);
    assert_eq!((pooled.waiters(), pooled.waits()), (0, 2));
    assert_eq!(pooled.rejected(), [0, 0, 0], "it had its connection");
}

#[actix_web::test]
async fn work_that_panics_loses_its_connection_only() {
    let pooled = pooled(of_size(1));
    let panicked = pooled
        .pool
        .run(|connection| {
            connection.transaction(|connection| {
                insert(connection, "a")?;
                panic!("on purpose");
                #[allow(unreachable_code)]
                Ok::<(), Error>(())
            })
        })
        .await
        .unwrap_err();
    assert!(matches!(panicked, RunError::Panicked));
    let count = pooled
        .pool
        .run(|connection| items::table.count().get_result::<i64>(connection))
        .await
        .unwrap();
    assert_eq!(count, 0);
    assert_eq!(pooled.fixture.transactions(), (0, 1));
    assert_eq!(
        pooled
            .fixture
            .families
            .connections_opened
            .series([""])
            .value(),
        2
    );
    assert_eq!((pooled.waiters(), pooled.holds()), (0, 2));
}

#[actix_web::test]
async fn the_work_and_its_wait_belong_to_the_request_of_the_caller() {
    let pooled = pooled(of_size(1));
    let mut context = None;
    let mut run = std::pin::pin!(pooled.pool.run(|connection| insert(connection, "a")));
    let ran = std::future::poll_fn(|cx| context::within(&mut context, || run.as_mut().poll(cx)));
    assert_eq!(ran.await.unwrap(), 1);
    let context = context.unwrap();
    assert_eq!(context.queries(), 1);
    assert!(context.database_time() > Duration::ZERO);
    assert!(context.pool_wait() > Duration::ZERO);
}
