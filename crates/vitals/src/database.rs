//! Queries, transactions and pools of Diesel connections.
//!
//! [`Vitals::instrument`](crate::Vitals::instrument) builds a [`Pool`] whose queries are recorded, and
//! [`Vitals::instrument_connection`](crate::Vitals::instrument_connection) records those of a connection without a pool. What
//! was recorded is reported by statement, by pool and by holder of a connection.

pub use vitals_recorder::database::{Opaque, QueryRecorder, Typed, Wrapped};

/// ```
/// use actix_vitals::{Vitals, database::Pool};
/// use diesel::{RunQueryDsl, SqliteConnection, r2d2::{self, ConnectionManager}, sql_query};
///
/// # #[actix_web::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let pool: Pool<SqliteConnection> = vitals
///     .instrument(r2d2::Pool::builder().max_size(1))
///     .build(ConnectionManager::new(":memory:"))?;
/// let rows = pool
///     .run(|connection| sql_query("CREATE TABLE orders (id INTEGER)").execute(connection))
///     .await?;
/// assert_eq!(rows, 0);
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::database::Pool;

/// ```
/// use actix_vitals::Vitals;
/// use diesel::{SqliteConnection, r2d2::{self, ConnectionManager}};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let pool = vitals
///     .instrument(r2d2::Pool::builder().max_size(2))
///     .name("reports")
///     .max_waiters(10)
///     .build(ConnectionManager::<SqliteConnection>::new(":memory:"))?;
/// assert_eq!((pool.name(), pool.max_size()), ("reports", 2));
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::database::PoolBuilder;

/// ```
/// use actix_vitals::{Vitals, database::Manager};
/// use diesel::{SqliteConnection, r2d2};
///
/// // The settings of a pool that exists already: only the type of its manager changes.
/// fn settings() -> r2d2::Builder<Manager<SqliteConnection>> {
///     r2d2::Pool::builder().max_size(2).test_on_check_out(false)
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let builder = vitals.instrument(settings());
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::database::Manager;

/// ```
/// use actix_vitals::{Vitals, database::Connection};
/// use diesel::{RunQueryDsl, SqliteConnection, r2d2::{self, ConnectionManager}, sql_query};
///
/// fn create_tables(connection: &mut Connection<SqliteConnection>) -> diesel::QueryResult<usize> {
///     sql_query("CREATE TABLE orders (id INTEGER)").execute(&mut **connection)
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let pool = vitals
///     .instrument(r2d2::Pool::builder().max_size(1))
///     .build(ConnectionManager::new(":memory:"))?;
/// create_tables(&mut pool.get()?)?;
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::database::Connection;

/// ```
/// use actix_vitals::database::CheckoutError;
///
/// let error = std::io::Error::from(CheckoutError::Timeout);
/// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
/// ```
pub use vitals_recorder::database::CheckoutError;

/// ```
/// use actix_vitals::database::ErrorKind;
/// use diesel::result::{DatabaseErrorKind, Error};
///
/// let error = Error::DatabaseError(DatabaseErrorKind::UniqueViolation, Box::new(String::new()));
/// assert_eq!(ErrorKind::of(&error), Some(ErrorKind::UniqueViolation));
/// assert_eq!(ErrorKind::of(&Error::NotFound), None);
/// ```
pub use vitals_recorder::database::ErrorKind;

/// ```
/// use actix_vitals::{Vitals, database::Order};
/// use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let mut connection = SqliteConnection::establish(":memory:")?;
/// vitals.instrument_connection(&mut connection);
/// sql_query("SELECT 1").execute(&mut connection)?;
/// sql_query("SELECT 2").execute(&mut connection)?;
/// let reports = vitals.statements().report(Order::Calls, 10);
/// assert_eq!((&*reports[0].statement, reports[0].calls), ("SELECT ?", 2));
/// vitals.statements().reset();
/// assert!(vitals.statements().report(Order::Calls, 10).is_empty());
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::database::{
    Order, StatementDetail, StatementFilter, StatementMinute, StatementReport, Statements,
};

/// What is suspected of a statement, and the line of code that ran it.
///
/// ```
/// use std::time::Duration;
/// use actix_vitals::{Vitals, database::{Order, Suspicion}};
/// use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().slow_query(Duration::from_nanos(1)).build()?;
/// let mut connection = SqliteConnection::establish(":memory:")?;
/// vitals.instrument_connection(&mut connection);
/// sql_query("SELECT 1").execute(&mut connection)?;
///
/// let statements = vitals.statements();
/// let slow = statements.report(Order::Mean, 1).remove(0);
/// let suspicions = statements.suspicions();
/// // A thread does this soon. It takes up to a second.
/// suspicions.symbolise_all();
/// for located in suspicions.of_statement(slow.number.ok_or("a kept statement")?) {
///     assert_eq!(located.suspicions, [Suspicion::Slow]);
///     if let Some(location) = located.location {
///         println!("{} was slow at {location}", slow.statement);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::suspicions::{CodeLocation, LocatedSuspicion, Suspicion, Suspicions};

/// ```
/// use actix_vitals::{Vitals, database::record_error};
/// use diesel::{Connection, QueryResult, RunQueryDsl, SqliteConnection, sql_query};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let mut connection = SqliteConnection::establish(":memory:")?;
/// vitals.instrument_connection(&mut connection);
/// let failed: QueryResult<usize> = sql_query("SELECT * FROM nowhere").execute(&mut connection);
/// if let Err(error) = failed {
///     record_error(&mut connection, &error);
/// }
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::database::record_error;

/// ```
/// use actix_vitals::database::without_values;
///
/// let message = without_values(r#"invalid port number: "secret""#);
/// assert!(!message.contains("secret"));
/// ```
pub use vitals_recorder::database::without_values;

#[cfg(feature = "diesel-async")]
pub use vitals_recorder::database::{
    AsyncExplainable, AsyncManager, AsyncPool, AsyncPoolBuilder, Held, NativePool, bb8, deadpool,
    mobc, record_async_error, set_async_instrumentation,
};

/// ```
/// use actix_vitals::{Vitals, database::{CheckoutError, Explainable, Pool}};
/// use diesel::{SqliteConnection, r2d2::{self, ConnectionManager, R2D2Connection}};
///
/// /// A pool of any of Diesel's connections.
/// fn open<C>(vitals: &Vitals, url: &str) -> Result<Pool<C>, CheckoutError>
/// where
///     C: R2D2Connection + Explainable + Send + 'static,
/// {
///     vitals
///         .instrument(r2d2::Pool::builder().max_size(1))
///         .build(ConnectionManager::new(url))
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = open::<SqliteConnection>(&Vitals::builder().build()?, ":memory:")?;
/// assert_eq!(pool.name(), "default");
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::database::Explainable;

pub use vitals_recorder::database::{
    Plan, PlanChange, PlanFlag, PlanFlagKind, PlanReport, PlanStep,
};

/// ```
/// use actix_vitals::database::RunError;
///
/// let error = RunError::Query("no such order").map(str::len);
/// assert!(matches!(error, RunError::Query(13)));
/// ```
pub use vitals_recorder::database::RunError;

/// ```
/// use actix_vitals::database::{Opaque, QueryError};
///
/// enum Rejected {
///     TooMany,
/// }
///
/// impl QueryError<Opaque> for Rejected {}
/// ```
pub use vitals_recorder::database::QueryError;

/// ```
/// use actix_vitals::{Vitals, database::set_instrumentation};
/// use diesel::{Connection, SqliteConnection, connection::InstrumentationEvent};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let mut connection = SqliteConnection::establish(":memory:")?;
/// vitals.instrument_connection(&mut connection);
/// set_instrumentation(&mut connection, |event: InstrumentationEvent<'_>| {
///     if let InstrumentationEvent::FinishQuery { error: Some(_), .. } = event {
///         eprintln!("a query failed");
///     }
/// });
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::database::set_instrumentation;

/// ```
/// use actix_vitals::database::sql::{Dialect, Operation, Verb, read};
///
/// let reading = read("SELECT id FROM items WHERE name = 'secret' -- why", Dialect::Sqlite);
/// assert_eq!(reading.verb, Verb::Query(Operation::Select));
/// assert_eq!(reading.shape, "SELECT id FROM items WHERE name = ?");
/// ```
pub use vitals_recorder::database::sql;
