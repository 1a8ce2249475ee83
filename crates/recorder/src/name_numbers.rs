//! Numbers for the names of endpoints and jobs, so that an atomic can refer to a name.
//!
//! The numbers are those of the whole process: a pool of one monitoring may serve requests that another one records. A name
//! keeps its number for as long as the process runs.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

/// The most names that have a number.
const MOST_NAMES: usize = 16_384;

static NAMES: LazyLock<Mutex<Names>> = LazyLock::new(Mutex::default);

#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Arc<str>, u32>,
    /// The number of a name is its index plus one.
    names: Vec<Arc<str>>,
}

/// Returns the number of a name. 0 means that it has none, because too many others have one.
pub(crate) fn number_of(name: &str) -> u32 {
    let mut names = lock();
    if let Some(number) = names.numbers.get(name) {
        return *number;
    }
    if names.names.len() >= MOST_NAMES {
        return 0;
    }
    let name: Arc<str> = name.into();
    names.names.push(Arc::clone(&name));
    let number = u32::try_from(names.names.len()).unwrap_or(0);
    names.numbers.insert(name, number);
    number
}

/// Returns the name with a number.
pub(crate) fn name_of(number: u32) -> Option<Arc<str>> {
    let index = (number as usize).checked_sub(1)?;
    lock().names.get(index).map(Arc::clone)
}

fn lock() -> MutexGuard<'static, Names> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_and_is_found_by_it() {
        let numbers = ["/names/a", "/names/b", "/names/a"].map(number_of);
        assert_eq!(numbers[0], numbers[2]);
        assert_ne!(numbers[0], numbers[1]);
        assert_eq!(name_of(numbers[1]).as_deref(), Some("/names/b"));
        assert_eq!((name_of(0), name_of(u32::MAX)), (None, None));
    }
}
