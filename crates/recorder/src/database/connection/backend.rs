//! Asks PostgreSQL which of its processes serves a connection, once for each connection that a pool opens.
//!
//! Diesel does not reveal what libpq knows of that, and a connection of any type returns no rows, but their number. So
//! two statements return as many rows as the halves of the number say. The rows have no columns: they cost 7 bytes each.

use std::num::NonZeroU32;

use diesel::QueryResult;
use diesel::backend::Backend;
use diesel::connection::Connection;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::query_dsl::methods::ExecuteDsl;

/// The base of the two digits.
const BASE: usize = 2048;

/// The number of its rows is the lower digit.
const LOWER: RowCount =
    RowCount("SELECT FROM pg_catalog.generate_series(1, pg_catalog.pg_backend_pid() % 2048)");

/// The number of its rows is the upper digit. Linux has no greater numbers; of those that other systems have, the process is
/// not known.
const UPPER: RowCount = RowCount(
    "SELECT FROM pg_catalog.generate_series(1, least(pg_catalog.pg_backend_pid() / 2048, 2048))",
);

/// A query of which only the number of rows matters.
#[derive(Clone, Copy, Debug)]
struct RowCount(&'static str);

impl QueryId for RowCount {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB: Backend> QueryFragment<DB> for RowCount {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        pass.unsafe_to_cache_prepared();
        pass.push_sql(self.0);
        Ok(())
    }
}

/// The process of PostgreSQL that serves this connection. `None` if the database does not say, which is no error: it is
/// none of PostgreSQL's then.
pub(super) fn backend_of<C: Connection>(connection: &mut C) -> Option<NonZeroU32> {
    let lower = ExecuteDsl::<C>::execute(LOWER, connection).ok()?;
    let upper = ExecuteDsl::<C>::execute(UPPER, connection).ok()?;
    from_digits(lower, upper)
}

/// Like [`backend_of`], for a connection of diesel-async.
#[cfg(feature = "diesel-async")]
pub(super) async fn backend_of_async<C>(connection: &mut C) -> Option<NonZeroU32>
where
    C: diesel_async::AsyncConnection,
{
    use diesel_async::RunQueryDsl;

    let lower = RunQueryDsl::execute(LOWER, connection).await.ok()?;
    let upper = RunQueryDsl::execute(UPPER, connection).await.ok()?;
    from_digits(lower, upper)
}

fn from_digits(lower: usize, upper: usize) -> Option<NonZeroU32> {
    let is_digit = |count: usize| count < BASE;
    let number = (is_digit(lower) && is_digit(upper)).then_some(upper * BASE + lower)?;
    NonZeroU32::new(u32::try_from(number).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_two_digits_and_not_beyond() {
        for (lower, upper, expected) in [
            (1, 0, Some(1)),
            (0, 1, Some(2048)),
            (1234, 3, Some(7378)),
            (2047, 2047, Some(4_194_303)),
            (0, 0, None),
            (0, 2048, None),
            (2048, 0, None),
        ] {
            let found = from_digits(lower, upper).map(NonZeroU32::get);
            assert_eq!(found, expected, "{upper} {lower}");
        }
    }
}
