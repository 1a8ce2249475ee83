//! What is read of the values of a query: a hash, to find out whether a request repeats a query with the same values, and
//! whether they are those of a ping.
//!
//! No value is kept. The key of the hash is random and stays in the process, so that a hash does not reveal a value.

use std::fmt::{self, Write as _};
use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use diesel::connection::DebugQuery;

/// The most bytes of a text and its values that are hashed. Longer ones are compared by their beginning.
const MOST_BYTES: usize = 16 * 1024;

static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Hashes what is written, up to a limit.
struct HashWriter {
    hasher: DefaultHasher,
    left: usize,
}

impl fmt::Write for HashWriter {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let hashed = piece.len().min(self.left);
        self.hasher.write(&piece.as_bytes()[..hashed]);
        self.left -= hashed;
        // The error ends the writing.
        if self.left == 0 {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

/// The hash of a query's text and values. `None` if the application's `Debug` of a value panics.
pub(super) fn hash(query: &dyn DebugQuery) -> Option<u64> {
    let mut writer = HashWriter {
        hasher: KEY.build_hasher(),
        left: MOST_BYTES,
    };
    let write = AssertUnwindSafe(|| {
        // An error is the limit.
        let _ = write!(writer, "{query}");
    });
    catch_unwind(write).ok()?;
    Some(writer.hasher.finish())
}

/// Compares what is written with the rest of a text.
struct Comparison<'a> {
    rest: &'a str,
}

impl fmt::Write for Comparison<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        // The error ends the writing.
        self.rest = self.rest.strip_prefix(piece).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// Whether a query and its values are displayed as this text. `false` if the application's `Debug` of a value panics.
pub(super) fn displays_as(query: &dyn DebugQuery, text: &str) -> bool {
    let mut comparison = Comparison { rest: text };
    let is_written = catch_unwind(AssertUnwindSafe(|| write!(comparison, "{query}").is_ok()));
    is_written.unwrap_or(false) && comparison.rest.is_empty()
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;
    use diesel::sqlite::Sqlite;

    use super::super::super::fixture::items;
    use super::*;

    fn of_name(name: &str) -> Option<u64> {
        let query = items::table.filter(items::name.eq(name));
        hash(&diesel::debug_query::<Sqlite, _>(&query))
    }

    #[test]
    fn queries_with_the_same_values_have_one_hash() {
        assert!(of_name("one").is_some());
        assert_eq!(of_name("one"), of_name("one"));
        assert_ne!(of_name("one"), of_name("two"));
        let raw = |sql: &str| hash(&diesel::debug_query::<Sqlite, _>(&diesel::sql_query(sql)));
        assert_eq!(raw("SELECT 1"), raw("SELECT 1"));
        assert_ne!(raw("SELECT 1"), raw("SELECT 2"));
    }

    #[test]
    fn a_long_value_is_compared_by_its_beginning() {
        let long = |end: &str| "x".repeat(MOST_BYTES) + end;
        assert_eq!(of_name(&long("1")), of_name(&long("2")));
    }
}
