//! Which connections a pool of r2d2 checks before their next use.
//!
//! r2d2 asks for a check at each checkout. A check is a round trip to the server, as long as many a query. So a connection
//! on which the server has answered recently is not checked, as in `HikariCP`. Such a connection may be lost all the same. A
//! statement then finds that, and from that moment on every connection is checked that has not answered since.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Moment;

/// The default of how long after its last answer a connection is used without a check. That of `HikariCP`.
pub(super) const CHECK_AFTER: Duration = Duration::from_millis(500);

thread_local! {
    /// This thread checks every connection that it takes.
    static CHECKING_ALL: Cell<bool> = const { Cell::new(false) };
}

/// The checks of one pool.
#[derive(Debug)]
pub(super) struct Checks {
    after: Duration,
    /// When a statement last found a lost connection, in nanoseconds of a [`Moment`]; 0 if none has.
    lost_at: AtomicU64,
}

impl Checks {
    /// Checks connections from this time after their last answer on.
    pub(super) fn after(after: Duration) -> Self {
        Self {
            after,
            lost_at: AtomicU64::new(0),
        }
    }

    /// Whether a connection is checked that last answered at this moment; `None` if a statement found it lost.
    pub(super) fn is_due(&self, answered_at: Option<Moment>, now: Moment) -> bool {
        let Some(answered_at) = answered_at else {
            return true;
        };
        CHECKING_ALL.get()
            || now.since(answered_at) >= self.after
            || answered_at.nanoseconds() <= self.lost_at.load(Relaxed)
    }

    /// Notes that a statement has found a lost connection. Others may be lost with it.
    pub(super) fn note_lost(&self, now: Moment) {
        self.lost_at.fetch_max(now.nanoseconds(), Relaxed);
    }
}

/// Runs `take`, which takes a connection from a pool on this thread. The connection is checked, however recently the server
/// has answered on it.
pub(super) fn checking_all<T>(take: impl FnOnce() -> T) -> T {
    /// Resets the mark, also if `take` panics.
    struct Reset;

    impl Drop for Reset {
        fn drop(&mut self) {
            CHECKING_ALL.set(false);
        }
    }

    CHECKING_ALL.set(true);
    let _reset = Reset;
    take()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::from_nanoseconds(milliseconds * 1_000_000)
    }

    #[test]
    fn a_connection_is_checked_if_it_has_not_answered_lately() {
        let checks = Checks::after(Duration::from_millis(500));
        for (answered_at, now, expected) in [
            (Some(at(1000)), at(1000), false),
            (Some(at(1000)), at(1499), false),
            (Some(at(1000)), at(1500), true),
            // The moments of two clocks.
            (Some(at(1000)), at(999), false),
            (None, at(1000), true),
        ] {
            assert_eq!(
                checks.is_due(answered_at, now),
                expected,
                "{answered_at:?} {now:?}"
            );
        }
    }

    #[test]
    fn without_a_time_each_connection_is_checked() {
        let checks = Checks::after(Duration::ZERO);
        assert!(checks.is_due(Some(at(1000)), at(1000)));
    }

    #[test]
    fn connections_that_answered_before_another_was_lost_are_checked() {
        let checks = Checks::after(Duration::from_millis(500));
        checks.note_lost(at(1000));
        checks.note_lost(at(900));
        assert!(checks.is_due(Some(at(999)), at(1001)));
        assert!(checks.is_due(Some(at(1000)), at(1001)));
        assert!(!checks.is_due(Some(at(1001)), at(1002)));
    }

    #[test]
    fn a_thread_can_ask_for_a_check_of_each_connection() {
        let checks = Checks::after(Duration::from_millis(500));
        let is_due = || checks.is_due(Some(at(1000)), at(1000));
        assert!(checking_all(is_due));
        assert!(!is_due());
        let panicked = std::panic::catch_unwind(|| checking_all(|| panic!("an opener panics")));
        assert!(panicked.is_err());
        assert!(!is_due());
    }
}
