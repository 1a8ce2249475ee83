//! Transactions: when one is open, how it ended, and whether it has written.
//!
//! Diesel announces what the next query does to a transaction. A transaction that the application controls by texts of its
//! own is followed as well, so that the holders of connections show it, but is not counted.

use super::running::{Control, Query};
use super::{Driver, QueryRecorder};
use crate::clock::{self, Moment};
use crate::context;
use crate::database::metrics::TransactionOutcome;
use crate::database::sql::TransactionEffect;

impl QueryRecorder {
    /// Handles Diesel's event for what the next query does to a transaction.
    pub(super) fn announce(&mut self, depth: u32, control: Control) {
        if self.driver != Driver::Blocking {
            // Diesel controls transactions through an exclusive reference.
            self.cancel_unfinished();
        }
        self.announced = Some(if depth == 1 { control } else { Control::Nested });
        if depth == 1 && control == Control::Begin {
            // A transaction that is still open was rolled back by the database.
            self.settle_open_transaction();
        }
    }

    /// Notes the end of a query that Diesel announced as control of a transaction.
    pub(super) fn control(
        &mut self,
        control: Control,
        query: &Query,
        now: Moment,
        succeeded: bool,
    ) {
        match control {
            Control::Begin if succeeded => self.transaction = Some(query.started),
            Control::Commit if succeeded => self.settle(TransactionOutcome::Committed, now),
            // Diesel rolls back a transaction that could not be committed, if the database has not done so.
            Control::Commit | Control::Rollback => self.settle(TransactionOutcome::RolledBack, now),
            Control::Begin | Control::Nested => {}
        }
    }

    /// Counts the transaction that is open, if there is one.
    fn settle(&mut self, outcome: TransactionOutcome, now: Moment) {
        if let Some(begun) = self.transaction.take() {
            self.writes(false);
            let span = context::note_transaction_end(begun, now);
            self.metrics
                .transaction(outcome, now.since(begun), span.as_ref());
        }
    }

    /// Counts a transaction that is still open as rolled back.
    pub(super) fn settle_open_transaction(&mut self) {
        if self.transaction.is_some() {
            self.settle(TransactionOutcome::RolledBack, clock::now());
        }
    }

    /// Whether a transaction is open that Diesel or the application has begun.
    #[inline]
    pub(super) fn is_in_transaction(&self) -> bool {
        self.transaction.is_some() || self.has_raw_transaction
    }

    /// Notes the effect of a text with which the application controls a transaction by hand.
    #[cold]
    pub(super) fn controlled_by_hand(&mut self, effect: TransactionEffect, succeeded: bool) {
        match effect {
            TransactionEffect::Ends => {
                self.has_raw_transaction = false;
                self.writes(false);
            }
            TransactionEffect::Begins | TransactionEffect::BeginsWriting if succeeded => {
                self.has_raw_transaction = true;
                self.writes(effect == TransactionEffect::BeginsWriting);
            }
            _ => {}
        }
    }

    /// Notes whether the open transaction has written.
    pub(super) fn writes(&mut self, has_written: bool) {
        if self.has_written != has_written {
            self.has_written = has_written;
            if let Some(slot) = &self.slot {
                slot.writes(has_written);
            }
        }
    }
}
