//! How many pages are open, and whose they are.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Pages that may be open at once.
const MAX_PAGES: usize = 200;

/// The pages that are open. No client has more of them than are left for all others.
#[derive(Debug, Default)]
pub(super) struct Pages {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_client: HashMap<Option<IpAddr>, usize>,
}

/// As many pages are open as may be, in all or of this client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyPages;

impl Pages {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a page, unless it is one too many. Otherwise [`Pages::close`] must follow.
    pub(super) fn open(&self, client: Option<IpAddr>) -> Result<(), TooManyPages> {
        let mut open = self.lock();
        let held = open.by_client.get(&client).copied().unwrap_or_default() + 1;
        let total = open.total + 1;
        if held + total > MAX_PAGES {
            return Err(TooManyPages);
        }
        open.by_client.insert(client, held);
        open.total = total;
        Ok(())
    }

    /// A page is gone.
    pub(super) fn close(&self, client: Option<IpAddr>) {
        let mut open = self.lock();
        open.total -= 1;
        if let Entry::Occupied(mut held) = open.by_client.entry(client) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_no_more_pages_than_are_left_for_others() {
        let pages = Pages::default();
        let client = |number: u8| Some(IpAddr::from([192, 0, 2, number]));
        let mut opened = Vec::new();
        for number in 0..8 {
            let most = (0..MAX_PAGES).take_while(|_| pages.open(client(number)).is_ok());
            opened.push(most.count());
        }
        assert_eq!(opened, [100, 50, 25, 12, 6, 3, 2, 1]);
        pages.close(client(0));
        pages.open(client(8)).unwrap();
        assert_eq!(pages.open(client(0)), Err(TooManyPages));
        for (number, count) in [
            (0, 99),
            (1, 50),
            (2, 25),
            (3, 12),
            (4, 6),
            (5, 3),
            (6, 2),
            (7, 1),
            (8, 1),
        ] {
            (0..count).for_each(|_| pages.close(client(number)));
        }
        let open = pages.lock();
        assert_eq!((open.total, open.by_client.len()), (0, 0));
    }
}
