//! The filter of the log, which `PUT /ops/log` changes for a time.
//!
//! The program owns the subscriber and passes a function that replaces its filter. This module decides when it is called:
//! at a change, and when the time of the change is over.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::task::AbortHandle;

type Replace = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// Changes the filter of the log for a time. Cheap to clone; clones share the filter.
///
/// Each change and each return is a line in the log, at the level `warn`, by the configured filter.
#[derive(Clone)]
pub struct LogControl {
    inner: Arc<LogControlInner>,
}

struct LogControlInner {
    configured: String,
    replace: Box<Replace>,
    change: Mutex<Option<LogChange>>,
}

/// A filter that is in use for a time.
struct LogChange {
    filter: String,
    end: Instant,
    /// The same moment by the wall clock, to be shown.
    until: SystemTime,
    /// Brings the configured filter back.
    timer: AbortHandle,
}

impl Drop for LogChange {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

/// The filter that is in use now.
#[derive(Debug, PartialEq)]
pub(crate) struct LogState {
    pub(crate) filter: String,
    pub(crate) configured: String,
    /// When the configured filter returns, if another one is in use.
    pub(crate) until: Option<SystemTime>,
}

impl LogControl {
    /// Changes a filter by `replace`, which returns why it cannot. `configured` is the filter that is in use now, and again
    /// after each change.
    pub fn new<F>(configured: impl Into<String>, replace: F) -> Self
    where
        F: Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    {
        Self {
            inner: Arc::new(LogControlInner {
                configured: configured.into(),
                replace: Box::new(replace),
                change: Mutex::default(),
            }),
        }
    }

    /// Uses another filter for this time, in place of an earlier change. Needs a Tokio runtime.
    pub(crate) fn change(&self, filter: &str, time: Duration) -> Result<(), String> {
        let inner = &self.inner;
        let mut change = inner.lock();
        // The log line is written by the configured filter: that of an earlier change may hide it.
        if mem::take(&mut *change).is_some() {
            (inner.replace)(&inner.configured)?;
        }
        let seconds = time.as_secs();
        tracing::warn!(filter, seconds, "the filter of the log is changed");
        (inner.replace)(filter)?;
        let end = Instant::now() + time;
        let control = self.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(end.into()).await;
            control.inner.return_if_due();
        });
        *change = Some(LogChange {
            filter: filter.to_owned(),
            end,
            until: SystemTime::now() + time,
            timer: timer.abort_handle(),
        });
        Ok(())
    }

    /// The filter that is in use now.
    pub(crate) fn state(&self) -> LogState {
        // The timer ends with its worker.
        self.inner.return_if_due();
        let configured = &self.inner.configured;
        let change = self.inner.lock();
        let change = change.as_ref();
        LogState {
            filter: change.map_or(configured, |change| &change.filter).clone(),
            configured: configured.clone(),
            until: change.map(|change| change.until),
        }
    }
}

impl LogControlInner {
    fn lock(&self) -> MutexGuard<'_, Option<LogChange>> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the configured filter back if the time of a change is over.
    fn return_if_due(&self) {
        let mut change = self.lock();
        if change.as_ref().is_none_or(|it| Instant::now() < it.end) {
            return;
        }
        *change = None;
        match (self.replace)(&self.configured) {
            Ok(()) => tracing::warn!("the filter of the log is the configured one again"),
            Err(error) => tracing::error!(error, "the configured filter of the log cannot be used"),
        }
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl")
            .field("configured", &self.inner.configured)
            .finish_non_exhaustive()
    }
}
