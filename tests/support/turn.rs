//! One test at a time, for tests that need the whole machine.

use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// Waits until no other test of this process has a turn. The turn ends when the guard is dropped.
pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}
