//! An error and its sources.

use std::error::Error;
use std::iter;

/// The most errors of one chain. An error that is by mistake its own source has a chain without an end.
const MOST_LINKS: usize = 32;

/// The error, and its sources one after another.
pub(crate) fn links<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| error.source()).take(MOST_LINKS)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An error that is its own source.
    #[derive(Debug)]
    pub(crate) struct Circular;

    impl std::fmt::Display for Circular {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("round and round")
        }
    }

    impl Error for Circular {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    /// An error whose source is circular.
    #[derive(Debug, thiserror::Error)]
    #[error("failed")]
    pub(crate) struct Outer(#[source] pub(crate) Circular);

    #[test]
    fn a_chain_without_an_end_has_the_most_links() {
        assert_eq!(links(&std::fmt::Error).count(), 1);
        let all: Vec<_> = links(&Outer(Circular)).map(ToString::to_string).collect();
        assert_eq!(all.len(), MOST_LINKS);
        assert_eq!(all[..2], ["failed", "round and round"]);
    }
}
