//! Lets the recorder of a connection and the instrumentation of the application share the single slot that Diesel has.
//!
//! The recorder is set on the connection, and forwards every event to the application's instrumentation. Diesel cannot take
//! an instrumentation from a connection. The recorder therefore forwards to the default of
//! [`set_default_instrumentation`](diesel::connection::set_default_instrumentation), which has one instance for each
//! connection, or to an instrumentation that is passed to [`set_instrumentation`].

use diesel::Connection;
use diesel::connection::{Instrumentation, get_default_instrumentation};

use super::forward::Forward;
use super::recorder::QueryRecorder;

/// Sets the instrumentation of a connection beside its recorder: both see every event.
///
/// Use it in place of [`Connection::set_instrumentation`], which would replace the recorder: in a customizer of an
/// instrumented pool, or after
/// `Vitals::instrument_connection`. On a connection without a recorder it does the
/// same as Diesel's method.
pub fn set_instrumentation<C: Connection>(
    connection: &mut C,
    instrumentation: impl Instrumentation,
) {
    match QueryRecorder::of(connection) {
        Some(recorder) => recorder.forward(Forward::to(Some(Box::new(instrumentation)))),
        None => connection.set_instrumentation(instrumentation),
    }
}

/// Sets the recorder of a connection. It forwards every event to the instrumentation that the connection had.
pub(super) fn install<C: Connection>(connection: &mut C, mut recorder: QueryRecorder) {
    let forward = if let Some(former) = QueryRecorder::of(connection) {
        former.take_forward()
    } else {
        let default = get_default_instrumentation();
        if is_foreign(connection.instrumentation(), default.as_deref()) {
            tracing::warn!(
                "the instrumentation of a connection is replaced by its recorder: \
                 set it after that, with actix_vitals::database::set_instrumentation"
            );
        }
        Forward::to(default)
    };
    recorder.forward(forward);
    connection.set_instrumentation(recorder);
}

/// Whether the instrumentation of a connection belongs to the application, and is not the default. An instrumentation
/// without state is taken for none.
fn is_foreign(present: &dyn Instrumentation, default: Option<&dyn Instrumentation>) -> bool {
    let type_of = |instrumentation: &dyn Instrumentation| instrumentation.as_any().type_id();
    size_of_val(present) > 0 && default.map(type_of) != Some(type_of(present))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::sync::{Arc, Mutex};

    use diesel::connection::{InstrumentationEvent, set_default_instrumentation};
    use diesel::r2d2::{self, ConnectionManager, CustomizeConnection};
    use diesel::{RunQueryDsl, SqliteConnection, sql_query};

    use super::*;
    use crate::database::connection::fixture::Fixture;

    /// Counts the queries that start, and those that finish.
    #[derive(Clone, Debug, Default)]
    struct Counts(Arc<Mutex<(u32, u32)>>);

    impl Counts {
        fn read(&self) -> (u32, u32) {
            *self.0.lock().unwrap()
        }
    }

    impl Instrumentation for Counts {
        fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
            let mut counts = self.0.lock().unwrap();
            match event {
                InstrumentationEvent::StartQuery { .. } => counts.0 += 1,
                InstrumentationEvent::FinishQuery { .. } => counts.1 += 1,
                _ => {}
            }
        }
    }

    fn run(connection: &mut SqliteConnection, times: usize) {
        for _ in 0..times {
            sql_query("SELECT 7").execute(connection).unwrap();
        }
    }

    #[test]
    fn an_instrumentation_set_after_the_recorder_sees_every_event() {
        let fixture = Fixture::new();
        let mut connection = fixture.connection();
        let (first, second) = (Counts::default(), Counts::default());
        set_instrumentation(&mut connection, first.clone());
        run(&mut connection, 3);
        assert_eq!(first.read(), (3, 3));
        assert_eq!(fixture.queries(), [("select".to_owned(), 3)]);
        // Diesel has only one at a time: the latest.
        set_instrumentation(&mut connection, second.clone());
        run(&mut connection, 2);
        assert_eq!((first.read(), second.read()), ((3, 3), (2, 2)));
        // Instrumented once more, the connection keeps it, and counts each query once.
        install(
            &mut connection,
            fixture.database.recorder::<SqliteConnection>(),
        );
        run(&mut connection, 1);
        assert_eq!(second.read(), (3, 3));
        assert_eq!(fixture.queries(), [("select".to_owned(), 6)]);
    }

    #[test]
    fn without_a_recorder_it_is_set_as_diesel_does() {
        let mut connection = SqliteConnection::establish(":memory:").unwrap();
        let counts = Counts::default();
        set_instrumentation(&mut connection, counts.clone());
        run(&mut connection, 1);
        assert_eq!(counts.read(), (1, 1));
    }

    #[derive(Debug)]
    struct InstrumentingCustomizer(Counts);

    impl CustomizeConnection<SqliteConnection, r2d2::Error> for InstrumentingCustomizer {
        fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), r2d2::Error> {
            set_instrumentation(connection, self.0.clone());
            Ok(())
        }
    }

    #[test]
    fn connections_of_a_pool_keep_the_instrumentation_of_a_customizer() {
        let fixture = Fixture::new();
        let counts = Counts::default();
        let builder = r2d2::Pool::builder()
            .max_size(1)
            .test_on_check_out(false)
            .connection_customizer(Box::new(InstrumentingCustomizer(counts.clone())));
        let pool = fixture
            .database
            .instrument(builder)
            .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
            .unwrap();
        run(&mut pool.get().unwrap(), 4);
        assert_eq!(counts.read(), (4, 4));
        assert_eq!(fixture.queries(), [("select".to_owned(), 4)]);
    }

    static DEFAULT_STARTED: AtomicU32 = AtomicU32::new(0);

    /// Counts the queries of this test alone: other tests of the process have the default, too.
    #[allow(clippy::unnecessary_wraps, reason = "Diesel's signature")]
    fn default() -> Option<Box<dyn Instrumentation>> {
        Some(Box::new(|event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { query, .. } = event
                && query.to_string().contains("SELECT 4711")
            {
                DEFAULT_STARTED.fetch_add(1, SeqCst);
            }
        }))
    }

    #[test]
    fn the_default_instrumentation_sees_every_event() {
        set_default_instrumentation(default).unwrap();
        let fixture = Fixture::new();
        let mut connection = SqliteConnection::establish(":memory:").unwrap();
        install(
            &mut connection,
            fixture.database.recorder::<SqliteConnection>(),
        );
        sql_query("SELECT 4711").execute(&mut connection).unwrap();
        let pool = fixture
            .database
            .instrument(r2d2::Pool::builder().max_size(1))
            .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
            .unwrap();
        sql_query("SELECT 4711")
            .execute(&mut pool.get().unwrap())
            .unwrap();
        assert_eq!(DEFAULT_STARTED.load(SeqCst), 2);
        assert_eq!(fixture.queries(), [("select".to_owned(), 2)]);
        set_default_instrumentation(|| None).unwrap();
    }

    #[test]
    fn an_instrumentation_with_state_other_than_the_default_is_the_applications() {
        let counts = Counts::default();
        assert!(is_foreign(&counts, None));
        assert!(!is_foreign(&counts, Some(&Counts::default())));
        assert!(!is_foreign(&|_: InstrumentationEvent<'_>| {}, None));
    }
}
