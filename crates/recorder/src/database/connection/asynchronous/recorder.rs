//! The recorder of one asynchronous connection.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::result::Error;
use diesel_async::AsyncConnection;

use super::super::recorder::QueryRecorder;
use super::{Forward, runs_elsewhere};
use crate::context::{self, RequestContext, identity::ContextIdentity};
use crate::database::wait::WaitEnd;
use crate::panics;

/// A [`QueryRecorder`] that the connection shares with the caller that has it.
///
/// The mutex is uncontended, except for a query that goes on after its future was dropped: the connection records while its
/// future is polled, and the caller uses the recorder when no future exists. `docs/decisions/asynchronous-recorder-lock.md`
/// says why it takes a mutex.
#[derive(Clone)]
pub(super) struct SharedRecorder(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Whether queries have started and not finished. Stored while the state is locked.
    has_unfinished: AtomicBool,
    /// The identity of the caller's context, which the state has. Stored while the state is locked.
    caller: ContextIdentity,
}

/// A dropped query of the connection still runs on another thread.
pub(super) struct InUse;

struct State {
    recorder: QueryRecorder,
    /// The request or job that has the connection, if the events come from another thread.
    caller: Option<Arc<RequestContext>>,
}

impl SharedRecorder {
    pub(super) fn new(mut recorder: QueryRecorder, forward: Forward) -> Self {
        recorder.forward(forward);
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                recorder,
                caller: None,
            }),
            has_unfinished: AtomicBool::new(false),
            caller: ContextIdentity::default(),
        }))
    }

    /// The recorder of a connection, unless it was replaced, or a dropped query of the connection still runs.
    pub(super) fn of<C: AsyncConnection>(connection: &mut C) -> Option<Self> {
        Self::find(connection).unwrap_or_default()
    }

    /// The recorder of a connection, unless it was replaced. An error if a dropped query of the connection still runs.
    ///
    /// A `SyncConnectionWrapper` panics in that case, and in each method that its pool would call next.
    pub(super) fn find<C: AsyncConnection>(connection: &mut C) -> Result<Option<Self>, InUse> {
        let mut find = || {
            let instrumentation = connection.instrumentation();
            instrumentation.downcast_mut::<Self>().cloned()
        };
        if runs_elsewhere::<C>() {
            panics::catch_expected(find).map_err(|_| InUse)
        } else {
            Ok(find())
        }
    }

    /// Forwards every event to this instrumentation, and to no other.
    pub(super) fn forward(&self, forward: Forward) {
        self.lock().recorder.forward(forward);
    }

    /// Stops recording until the returned guard is dropped: see [`Muted::end`].
    pub(super) fn muted(&self, runs_elsewhere: bool) -> Muted {
        self.lock().recorder.mute(true);
        Muted {
            recorder: self.clone(),
            may_go_on: runs_elsewhere,
        }
    }

    /// Whether the answer of a dropped query is still to come, so that the connection must not be used again.
    pub(super) fn is_out_of_step(&self) -> bool {
        self.lock().recorder.is_out_of_step()
    }

    /// Passes the connection to the request or job that this thread works for, which waited for it and took it by this call.
    /// Returns whether the wait is observed.
    pub(super) fn check_out(
        &self,
        taken_at: &'static Location<'static>,
        wait: &WaitEnd,
        runs_elsewhere: bool,
    ) -> bool {
        let mut state = self.lock();
        let is_observed = state.recorder.check_out(taken_at, wait);
        self.set_caller(&mut state, runs_elsewhere);
        is_observed
    }

    /// Takes the connection from its holder, who had it for this time. Returns whether the database has answered a query of
    /// the holder, and whether the time is observed.
    pub(super) fn check_in(&self, held: Duration) -> (bool, bool) {
        let mut state = self.lock();
        let was_answered = state.recorder.was_answered();
        let is_observed = state.recorder.check_in(Some(held));
        self.set_caller(&mut state, false);
        (was_answered, is_observed)
    }

    /// Notes that the caller has exclusive access to the connection, so that no future of a query exists.
    #[inline]
    pub(super) fn accessed(&self, runs_elsewhere: bool) {
        // A query that was dropped may end meanwhile on another thread. It is then no longer unfinished.
        let has_unfinished = self.0.has_unfinished.load(Acquire);
        let is_caller = !runs_elsewhere || self.0.caller.is_current();
        if has_unfinished || !is_caller {
            self.begin_access(runs_elsewhere);
        }
    }

    #[cold]
    fn begin_access(&self, runs_elsewhere: bool) {
        let mut state = self.lock();
        state.recorder.cancel_unfinished();
        self.set_caller(&mut state, runs_elsewhere);
    }

    /// Sets who causes the events, if they come from another thread. Called when no query is unfinished.
    fn set_caller(&self, state: &mut State, runs_elsewhere: bool) {
        state.caller = runs_elsewhere.then(context::current).flatten();
        self.0.caller.store(state.caller.as_ref());
        self.0.has_unfinished.store(false, Release);
    }

    /// Counts an error, unless an event has reported it.
    pub(super) fn left_out(&self, error: &Error) {
        self.lock().recorder.left_out(error);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = &self.0.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Instrumentation for SharedRecorder {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        let mut state = self.lock();
        let state = &mut *state;
        if state.caller.is_some() {
            let recorder = &mut state.recorder;
            context::within(&mut state.caller, || recorder.on_connection_event(event));
        } else {
            state.recorder.on_connection_event(event);
        }
        let has_unfinished = state.recorder.has_unfinished();
        self.0.has_unfinished.store(has_unfinished, Release);
    }
}

impl fmt::Debug for SharedRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRecorder").finish_non_exhaustive()
    }
}

/// Lets a recorder record again when dropped.
pub(super) struct Muted {
    recorder: SharedRecorder,
    /// A query that is not recorded may go on when this is dropped, on another thread.
    may_go_on: bool,
}

impl Muted {
    /// Ends the time in which nothing is recorded: what ran in it has ended.
    pub(super) fn end(muted: Option<Self>) {
        if let Some(mut muted) = muted {
            muted.may_go_on = false;
        }
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        let recorder = &mut self.recorder.lock().recorder;
        if self.may_go_on {
            recorder.leave_muted();
        } else {
            recorder.mute(false);
        }
    }
}
