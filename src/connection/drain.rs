//! How the connections of a listener end at a shutdown, in two steps: first each closes after its next answer, then idle
//! ones close.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

/// Ends the connections of one listener. Clones share their state.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Drain {
    closes_after_answer: Arc<AtomicBool>,
    closes_idle: watch::Sender<bool>,
}

impl Drain {
    /// Makes every further answer the last of its connection, and announces that in its head.
    pub(in super::super) fn close_after_answer(&self) {
        self.closes_after_answer.store(true, Ordering::Relaxed);
    }

    /// Closes the connections that wait for a request, now and from now on.
    pub(in super::super) fn close_idle(&self) {
        self.close_after_answer();
        self.closes_idle.send_replace(true);
    }

    pub(super) fn closes_after_answer(&self) -> bool {
        self.closes_after_answer.load(Ordering::Relaxed)
    }

    /// Waits for [`Drain::close_idle`].
    pub(super) fn closing(&self) -> impl Future<Output = ()> + use<> {
        let mut closes = self.closes_idle.subscribe();
        async move {
            // The sender lives as long as the listener.
            let _closing = closes.wait_for(|closes| *closes).await;
        }
    }
}
