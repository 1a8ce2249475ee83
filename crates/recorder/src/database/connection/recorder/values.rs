//! What is read of the values of a query: a hash, to find out whether a request repeats a query with the same values, and
//! whether they are those of a ping.
//!
//! No value is kept. The key of the hash is random and stays in the process, so that a hash does not reveal a value.

use std::fmt::{self, Write as _};
use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _, RandomState};
use std::sync::LazyLock;

use diesel::connection::DebugQuery;

use crate::panics;

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
    // An error is the limit.
    panics::catch_expected(|| write!(writer, "{query}"))
        .map(drop)
        .ok()?;
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
    let written = panics::catch_expected(|| write!(comparison, "{query}"));
    written.is_ok_and(|result| result.is_ok()) && comparison.rest.is_empty()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use diesel::prelude::*;
    use diesel::sqlite::Sqlite;
    use vitals_registry::Registry;

    use super::super::super::fixture::items;
    use super::*;
    use crate::panics::Panics;

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

    /// A query with a value whose `Debug` is defective.
    #[derive(Debug)]
    struct Unprintable;

    impl fmt::Display for Unprintable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("on purpose")
        }
    }

    impl DebugQuery for Unprintable {}

    /// The application does not print its values: without the recording there was no panic.
    #[test]
    fn a_value_that_cannot_be_printed_is_no_panic_of_the_application() {
        let mut builder = Registry::builder(|| Duration::ZERO);
        Panics::declare(&mut builder).watch();
        let _earlier = panics::take_location();
        assert_eq!(hash(&Unprintable), None);
        assert!(!displays_as(&Unprintable, "SELECT 1 -- binds: []"));
        assert_eq!(panics::take_location(), None);
    }
}
