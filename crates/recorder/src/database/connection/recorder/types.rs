//! Finds the text of a query by its Rust type, so that most texts need not be built.
//!
//! Diesel announces a text when it begins to keep it prepared, once for each text of a connection. A type with a second
//! announced text has many texts, and each of its runs is read from then on. A type that was never announced is also read
//! each time: `sql_query`, every `UPDATE`, and all queries if the application has turned Diesel's statement cache off.
//!
//! A type with one announced text has that text in all its runs, with one exception: a boxed query may be announced with
//! one text and then run with a text that Diesel never keeps prepared, such as an `IN` list on SQLite. No event shows that.
//! Therefore the first 1,000 runs of a type on a connection are read as well, and every 32nd run after these. Only a type
//! that had one text in all 1,000 runs, and such an unannounced text afterwards, can have calls under the wrong statement:
//! at most 31, once on a connection.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use diesel::connection::DebugQuery;

use crate::database::statements::connection_statements::{ConnectionStatements, TextKind};

/// Runs of a type that are read before its text is assumed to be the only one.
const FIRST_READS: u32 = 1_000;

/// One of this many further runs is read.
const RUNS_BETWEEN_READS: u32 = 32;

/// Identifies a type of query by the address of its table of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TypeIdentity(usize);

impl TypeIdentity {
    /// The address is the second half of the reference. Hashing the pointer reveals it without `unsafe`. If Rust ever hashes
    /// pointers in another way, there is no identity, and the text is read each time.
    pub(super) fn of(query: &dyn DebugQuery) -> Option<Self> {
        let mut halves = PointerHalves::default();
        std::ptr::from_ref(query).hash(&mut halves);
        (halves.seen == 2).then_some(Self(halves.last))
    }
}

/// The types of queries of which Diesel has announced a text. Their number is bounded by the program.
#[derive(Debug, Default)]
pub(super) struct Types(HashMap<TypeIdentity, Learnt, BuildHasherDefault<AddressHasher>>);

/// The state of a type.
#[derive(Clone, Copy, Debug)]
enum Learnt {
    /// It has had one text so far.
    One {
        text: u64,
        kind: TextKind,
        runs: u32,
    },
    /// It has several, or one with an effect that its kind does not have.
    Many,
}

impl Types {
    /// Returns the hash of the text of a query of this type, and its kind, for one run. `None` if its text has to be read.
    #[inline]
    pub(super) fn kind(
        &mut self,
        identity: TypeIdentity,
        known: &ConnectionStatements,
    ) -> Option<(u64, TextKind)> {
        let Learnt::One { text, kind, runs } = self.0.get_mut(&identity)? else {
            return None;
        };
        // The count must not wrap around to the first reads.
        *runs = runs.checked_add(1).unwrap_or(FIRST_READS);
        let is_trusted = *runs > FIRST_READS && *runs % RUNS_BETWEEN_READS != 0;
        let is_valid = kind.is_none_or(|(_, place)| known.is_valid(place));
        (is_trusted && is_valid).then_some((*text, *kind))
    }

    /// Notes the text of a query of this type. Does nothing for a type that was never announced.
    pub(super) fn saw(&mut self, identity: TypeIdentity, text: u64, kind: TextKind) {
        if let Some(learnt) = self.0.get_mut(&identity) {
            learnt.saw(text, kind);
        }
    }

    /// Notes that each run of a query of this type has to be read, for its effect.
    pub(super) fn always_read(&mut self, identity: TypeIdentity) {
        self.0.insert(identity, Learnt::Many);
    }

    /// Notes the text that Diesel has announced for a query of this type.
    pub(super) fn announced(&mut self, identity: TypeIdentity, text: u64, kind: TextKind) {
        self.0
            .entry(identity)
            .and_modify(|learnt| learnt.saw(text, kind))
            .or_insert(Learnt::One {
                text,
                kind,
                runs: 0,
            });
    }
}

impl Learnt {
    fn saw(&mut self, seen: u64, kind_seen: TextKind) {
        if let Self::One { text, kind, .. } = self {
            if *text == seen {
                *kind = kind_seen;
            } else {
                *self = Self::Many;
            }
        }
    }
}

#[derive(Default)]
struct PointerHalves {
    seen: u32,
    last: usize,
}

impl Hasher for PointerHalves {
    fn write_usize(&mut self, half: usize) {
        self.seen += 1;
        self.last = half;
    }

    fn write(&mut self, _: &[u8]) {
        self.seen = u32::MAX / 2;
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// Spreads addresses, which differ mostly in their middle bits, over the table. Clients cannot choose the addresses.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64 >> 3)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(26);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;
    use diesel::sqlite::Sqlite;

    use super::super::super::fixture::items;
    use super::TypeIdentity;

    #[test]
    fn the_types_of_queries_are_distinguished() {
        fn of(id: i32) -> (Option<TypeIdentity>, Option<TypeIdentity>) {
            let select = items::table.filter(items::id.eq(id));
            let delete = diesel::delete(items::table.filter(items::id.eq(id)));
            (
                TypeIdentity::of(&diesel::debug_query::<Sqlite, _>(&select)),
                TypeIdentity::of(&diesel::debug_query::<Sqlite, _>(&delete)),
            )
        }
        let (select, delete) = of(1);
        assert!(select.is_some() && delete.is_some());
        assert_ne!(select, delete);
        assert_eq!(of(2), (select, delete));
    }
}
