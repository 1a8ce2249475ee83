//! The users of a connection: how it passes from one to the next, and what is known of it in between.
//!
//! The users of a pool's connection are its customizer, the pool's own checks, and one caller after another. What one has
//! begun does not count for the next. Outside of a pool, a connection has one user.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::InstrumentationEvent;

use super::failures::Failures;
use super::{Driver, QueryRecorder};
use crate::clock::{self, Moment};
use crate::database::holders::HoldSlot;
use crate::database::metrics::PoolWriters;
use crate::database::wait::WaitEnd;

/// The last query that ran while the recorder was muted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MutedQuery {
    None,
    Running,
    Ended,
}

impl QueryRecorder {
    /// Marks the connection as new in a pool: the queries of the customizer belong to no caller.
    #[must_use]
    pub(in super::super) fn in_pool(mut self, slot: Arc<HoldSlot>, pool: PoolWriters) -> Self {
        self.setting_up = true;
        self.pool = Some(pool);
        self.listed_in(slot)
    }

    /// Lists in this slot what the connection does.
    #[must_use]
    pub(in super::super) fn listed_in(mut self, slot: Arc<HoldSlot>) -> Self {
        self.slot = Some(slot);
        self
    }

    /// Passes the connection to the request or job that this thread works for, which waited for it and took it by this call.
    /// Observes the wait, unless the recorder is of no pool, which is the result then.
    #[must_use]
    pub(in super::super) fn check_out(
        &mut self,
        taken_at: &'static Location<'static>,
        wait: &WaitEnd,
    ) -> bool {
        self.turn_over();
        if let Some(slot) = &self.slot {
            slot.begin(Some(taken_at), wait.at);
        }
        self.pool.as_ref().map(|pool| pool.waited(wait)).is_some()
    }

    /// Takes the connection from its holder, who had it for this time; `None` for a health check, which does not count.
    /// Observes the time, unless the recorder is of no pool, which is the result then.
    #[must_use]
    pub(in super::super) fn check_in(&mut self, held: Option<Duration>) -> bool {
        self.turn_over();
        let Some(held) = held else {
            return true;
        };
        if let Some(slot) = &self.slot {
            slot.end(held);
        }
        self.pool.as_ref().map(|pool| pool.held(held)).is_some()
    }

    /// Resets the state of the present user, because the connection passes to the next one. A transaction that is still
    /// open was rolled back without Diesel, or will be, together with its connection.
    pub(in super::super) fn turn_over(&mut self) {
        match self.driver {
            // It was never sent.
            Driver::Blocking => self.running.clear(),
            Driver::Exclusive | Driver::Pipelining => self.cancel_unfinished(),
        }
        self.setting_up = false;
        self.muted = false;
        self.answered = false;
        self.may_have_written = false;
        self.failures = Failures::default();
        self.announced = None;
        self.settle_open_transaction();
    }

    /// Stops recording, or starts it again. No future of the connection may exist.
    pub(in super::super) fn mute(&mut self, muted: bool) {
        self.muted = muted;
        self.settle_muted();
    }

    /// Notes that a future was dropped while the recorder was muted, whose query runs on another thread.
    ///
    /// Such a query may begin later. It goes on unrecorded, and its connection must not be used again.
    #[cfg_attr(
        not(feature = "diesel-async"),
        expect(dead_code, reason = "connections of diesel-async alone run elsewhere")
    )]
    pub(in super::super) fn leave_muted(&mut self) {
        if self.muted_query == MutedQuery::Ended {
            self.mute(false);
        } else {
            self.out_of_step = true;
        }
    }

    /// Notes that a query that ran while muted was dropped, if one has not finished.
    fn settle_muted(&mut self) {
        let query = std::mem::replace(&mut self.muted_query, MutedQuery::None);
        self.out_of_step |= query == MutedQuery::Running && self.driver == Driver::Exclusive;
    }

    /// Notes whether a query runs that is not recorded.
    #[cold]
    pub(super) fn follow_muted(&mut self, event: &InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => {
                self.settle_muted();
                self.muted_query = MutedQuery::Running;
            }
            InstrumentationEvent::FinishQuery { .. } => self.muted_query = MutedQuery::Ended,
            _ => {}
        }
    }

    /// Whether the database has answered a query of the present user.
    pub(in super::super) fn was_answered(&self) -> bool {
        self.answered
    }

    /// When the database last answered on this connection; `None` if a statement found that the connection is lost.
    pub(in super::super) fn answered_at(&self) -> Option<Moment> {
        (!self.lost).then_some(self.answered_at)
    }

    /// Notes that the connection has passed a check.
    pub(in super::super) fn passed_check(&mut self) {
        self.answered_at = clock::now();
    }

    /// Whether a statement found that the connection is lost, so that it must not be used again.
    pub(in super::super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether all statements of the present user were `SELECT`s that only read, or controlled a transaction.
    pub(in super::super) fn has_only_read(&self) -> bool {
        !self.may_have_written
    }

    /// Whether the answer of a dropped query is still to come, so that the connection must not be used again. Called when no
    /// future of the connection can exist any more.
    ///
    /// `AsyncMysqlConnection` does not notice that by itself. `AsyncPgConnection` skips the answers of dropped queries.
    #[cfg_attr(
        not(feature = "diesel-async"),
        expect(dead_code, reason = "pools of asynchronous connections alone ask")
    )]
    pub(in super::super) fn is_out_of_step(&self) -> bool {
        // A caller that has the connection from the inner pool does not return it to the recorder.
        self.out_of_step || self.driver == Driver::Exclusive && self.running.has_sent()
    }
}
