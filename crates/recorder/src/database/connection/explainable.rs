//! How a connection of Diesel answers the questions of the explaining connection.

use std::sync::Arc;

use diesel::backend::Backend;
use diesel::connection::LoadConnection;
use diesel::deserialize::{self, FromSql, QueryableByName};
use diesel::query_builder::{QueryFragment, SqlQuery};
use diesel::r2d2::R2D2Connection;
use diesel::result::Error;
use diesel::row::{Field, NamedRow};
use diesel::sql_types::Text;
use diesel::{Connection, RunQueryDsl, sql_query};

use super::manager::Connector;
use crate::database::error::ErrorKind;
use crate::database::explaining::{Answer, AskError, Asked, Open, TextRow};

/// A connection that can load rows of text, as every connection of Diesel can.
///
/// A pool opens one such connection of its own, to ask the database for plans and for the holders of locks.
pub trait Explainable: Connection {
    /// Runs one statement, and returns its rows with their columns as text.
    #[doc(hidden)]
    fn text_rows(&mut self, sql: &str) -> diesel::QueryResult<Vec<Vec<Option<String>>>>;
}

impl<C> Explainable for C
where
    C: Connection + LoadConnection,
    String: FromSql<Text, C::Backend>,
    SqlQuery: QueryFragment<C::Backend>,
    C::Backend: 'static,
{
    fn text_rows(&mut self, sql: &str) -> diesel::QueryResult<Vec<Vec<Option<String>>>> {
        let rows: Vec<LoadedRow> = sql_query(sql).load(self)?;
        Ok(rows.into_iter().map(|LoadedRow(columns)| columns).collect())
    }
}

/// The columns of a row, whatever their names are.
pub(super) struct LoadedRow(pub(super) TextRow);

impl<DB> QueryableByName<DB> for LoadedRow
where
    DB: Backend,
    String: FromSql<Text, DB>,
{
    fn build<'a>(row: &impl NamedRow<'a, DB>) -> deserialize::Result<Self> {
        let columns = (0..row.field_count()).map(|index| {
            let field = diesel::row::Row::get(row, index);
            let value = field.as_ref().and_then(Field::value);
            value.map(String::from_sql).transpose()
        });
        columns.collect::<Result<_, _>>().map(Self)
    }
}

/// Returns the function that opens the explaining connection as the pool opens its own.
pub(super) fn opener<C>(connector: &Arc<Connector<C>>) -> Open
where
    C: R2D2Connection + Explainable + Send + 'static,
{
    let connector = Arc::clone(connector);
    Box::new(move || {
        let mut connection = connector.open().map_err(|error| {
            tracing::debug!(%error, "the explaining connection cannot be opened");
            AskError::Unreachable
        })?;
        // The default instrumentation of the application is not meant for these statements.
        connection.set_instrumentation(|_: diesel::connection::InstrumentationEvent<'_>| {});
        Ok(Box::new(Blocking(connection)) as Box<dyn Asked>)
    })
}

/// A connection of Diesel.
struct Blocking<C>(C);

impl<C: Explainable> Asked for Blocking<C> {
    fn run(&mut self, sql: &str) -> Answer<()> {
        self.0.batch_execute(sql).map_err(|error| ask_error(&error))
    }

    fn rows(&mut self, sql: &str) -> Answer<Vec<TextRow>> {
        self.0.text_rows(sql).map_err(|error| ask_error(&error))
    }
}

/// What an error of Diesel means for a question.
pub(super) fn ask_error(error: &Error) -> AskError {
    let Error::DatabaseError(_, information) = error else {
        return AskError::Rejected;
    };
    let message = information.message();
    match ErrorKind::of(error) {
        Some(ErrorKind::ConnectionLost) => AskError::Unreachable,
        Some(ErrorKind::Busy) => AskError::Locked,
        Some(ErrorKind::Timeout) if message.contains("lock timeout") => AskError::Locked,
        Some(ErrorKind::Timeout) => AskError::Slow,
        _ => of_message(message),
    }
}

/// Parts of messages of PostgreSQL, SQLite and MySQL, in English. Diesel does not pass on their codes.
const MESSAGES: [(&str, AskError); 7] = [
    ("permission denied", AskError::Denied),
    ("denied to user", AskError::Denied),
    ("does not exist", AskError::Unknown),
    ("doesn't exist", AskError::Unknown),
    ("no such ", AskError::Unknown),
    ("has no column", AskError::Unknown),
    ("Unknown column", AskError::Unknown),
];

fn of_message(message: &str) -> AskError {
    MESSAGES
        .iter()
        .find(|(part, _)| message.contains(part))
        .map_or(AskError::Rejected, |&(_, error)| error)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use diesel::SqliteConnection;
    use diesel::r2d2::{self, ConnectionManager};

    use super::*;
    use crate::database::connection::fixture::{Fixture, create_table, insert};

    #[test]
    fn a_question_needs_no_connection_of_the_pool_and_is_not_recorded_and_cannot_write() {
        let fixture = Fixture::new();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("asked.db").display().to_string();
        let pool = fixture
            .database
            .instrument(r2d2::Pool::builder().max_size(1))
            .build(ConnectionManager::<SqliteConnection>::new(path))
            .unwrap();
        let mut held = pool.get().unwrap();
        create_table(&mut held);
        insert(&mut held, "a").unwrap();
        let recorded = fixture.queries();
        let explainer = fixture.database.explainers.of(pool.name()).unwrap();
        let ask = |sql| {
            let (send, answer) = channel();
            assert!(explainer.ask(sql, &[1], move |rows| drop(send.send(rows))));
            answer.recv_timeout(Duration::from_secs(30)).unwrap()
        };
        for (question, expected) in [
            (
                "SELECT name, NULL, id FROM items WHERE id IN ({})",
                Ok(vec![vec![Some("a".to_owned()), None, Some("1".to_owned())]]),
            ),
            ("DELETE FROM items WHERE id = {}", Err(AskError::Rejected)),
            ("SELECT {} FROM nowhere", Err(AskError::Unknown)),
            (
                "SELECT count(*) FROM items",
                Ok(vec![vec![Some("1".to_owned())]]),
            ),
        ] {
            assert_eq!(ask(question), expected, "{question}");
        }
        assert_eq!(fixture.queries(), recorded);
        assert_eq!(fixture.families.connections_opened.series([""]).value(), 1);
        let level = fixture.database.levels().sum().unwrap();
        assert_eq!((level.checked_out, level.idle, level.max), (1, 0, 1));
        drop((held, pool, explainer));
        assert!(fixture.database.explainers.of("default").is_none());
    }

    #[test]
    fn the_errors_of_databases_have_reasons() {
        use diesel::result::DatabaseErrorKind;

        for (message, expected) in [
            ("canceling statement due to lock timeout", AskError::Locked),
            (
                "canceling statement due to statement timeout",
                AskError::Slow,
            ),
            ("permission denied for table items", AskError::Denied),
            (
                "SELECT command denied to user 'a'@'b' for table `c`",
                AskError::Denied,
            ),
            ("relation \"items\" does not exist", AskError::Unknown),
            ("no such column: name", AskError::Unknown),
            ("database is locked", AskError::Locked),
            (
                "server closed the connection unexpectedly",
                AskError::Unreachable,
            ),
            ("syntax error", AskError::Rejected),
        ] {
            let error =
                Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(message.to_owned()));
            assert_eq!(ask_error(&error), expected, "{message}");
        }
    }
}
