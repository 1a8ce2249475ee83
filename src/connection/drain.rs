//! How the connections of a listener are told to end, in two steps: first each takes its leave with its next answer, then
//! those that wait for a request close.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The end of a listener's connections. Cheap to clone; a clone is of the same listener.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Drain {
    parting: Arc<AtomicBool>,
    closing: watch::Sender<bool>,
}

impl Drain {
    /// From now on every answer is the last of its connection, and says so.
    pub(in super::super) fn part(&self) {
        self.parting.store(true, Ordering::Relaxed);
    }

    /// From now on no connection waits for a request.
    pub(in super::super) fn close(&self) {
        self.part();
        self.closing.send_replace(true);
    }

    pub(super) fn is_parting(&self) -> bool {
        self.parting.load(Ordering::Relaxed)
    }

    /// Waits for [`Drain::close`].
    pub(super) fn closing(&self) -> impl Future<Output = ()> + use<> {
        let mut closing = self.closing.subscribe();
        async move {
            // The sender lives as long as the listener does.
            let _closing = closing.wait_for(|closing| *closing).await;
        }
    }
}
