//! Numbers for locations in the code of the application, so that an atomic can refer to one.
//!
//! The compiler knows the location of a call to a function with `#[track_caller]`, so that a location costs no backtrace.
//! Finding the number of a known location takes no lock.

use std::{panic::Location, path::Path, ptr, sync::OnceLock};

/// The directories that a path within a crate begins with.
const CRATE_DIRECTORIES: [&str; 4] = ["src", "tests", "examples", "benches"];

/// The number of entries, a power of two.
const ENTRIES: usize = 1024;

/// The number of entries that a location may be in.
const PROBES: usize = 16;

/// A hash table with open addressing. Entries are never freed.
static LOCATIONS: [OnceLock<&'static Location<'static>>; ENTRIES] =
    [const { OnceLock::new() }; ENTRIES];

/// Returns the number of a location. 0 means that it has none, because other locations have taken all its entries.
#[inline]
pub(crate) fn number_of(location: &'static Location<'static>) -> u32 {
    let address = ptr::from_ref(location).addr();
    // Locations are next to each other. Multiplication by the golden ratio spreads them evenly.
    let first = (address >> 3).wrapping_mul(0x9e37_79b9) >> 7;
    let mut entries = (first..first + PROBES).map(|entry| entry % ENTRIES);
    let entry = entries.find(|entry| {
        let known = LOCATIONS[*entry].get_or_init(|| location);
        ptr::eq(*known, location)
    });
    entry.map_or(0, |entry| u32::try_from(entry + 1).unwrap_or(0))
}

/// Returns the location with a number.
pub(crate) fn location_of(number: u32) -> Option<&'static Location<'static>> {
    let entry = LOCATIONS.get((number as usize).checked_sub(1)?)?;
    entry.get().copied()
}

/// A location in words. A file of the workspace has its path within it, a file elsewhere no path of the machine.
pub(crate) fn text_of(location: &Location<'_>) -> String {
    let file = Path::new(location.file());
    if file.is_relative() {
        return location.to_string();
    }
    let file = within_crate(file);
    format!("{file}:{}:{}", location.line(), location.column())
}

/// The path of a file from the last directory on that a path within a crate begins with, or else its name.
pub(crate) fn within_crate(file: &Path) -> String {
    let path = file.to_string_lossy().replace('\\', "/");
    let parts: Vec<&str> = path.split('/').collect();
    let name = parts.len().saturating_sub(1);
    let directories = &parts[..name];
    let first = directories
        .iter()
        .rposition(|part| CRATE_DIRECTORIES.contains(part));
    parts[first.unwrap_or(name)..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn here() -> u32 {
        number_of(Location::caller())
    }

    #[test]
    fn a_location_has_one_number_and_is_found_by_it() {
        let numbers: Vec<_> = (0..3).map(|_| here()).collect();
        assert_eq!((numbers[0], numbers[0]), (numbers[1], numbers[2]));
        let other = (here(), line!());
        assert_ne!(other.0, numbers[0]);
        let location = location_of(other.0).unwrap();
        assert_eq!((location.file(), location.line()), (file!(), other.1));
        assert_eq!((location_of(0), location_of(u32::MAX)), (None, None));
    }

    #[test]
    fn a_file_is_named_without_the_paths_of_the_machine() {
        for (file, expected) in [
            ("/home/me/shop/src/orders.rs", "src/orders.rs"),
            (
                "/usr/src/shop/crates/api/src/v1/orders.rs",
                "src/v1/orders.rs",
            ),
            ("/home/me/shop/tests/api.rs", "tests/api.rs"),
            ("crates/api/src/orders.rs", "src/orders.rs"),
            ("/home/me/orders.rs", "orders.rs"),
            ("orders.rs", "orders.rs"),
            ("C:\\shop\\src\\orders.rs", "src/orders.rs"),
        ] {
            assert_eq!(within_crate(Path::new(file)), expected, "{file}");
        }
    }
}
