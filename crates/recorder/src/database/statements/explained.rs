//! The texts of statements that may be explained, and what a study of plans needs to know of each statement.
//!
//! A text is kept only if all its values are placeholders: it says no more than the shape, and is never shown.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use vitals_registry::HistogramSnapshot;

use super::table::{Statement, Statements, lock};
use crate::database::sql::{self, Dialect, Unexplainable};

/// The first text of a statement that may be explained, or why there is none so far.
pub(super) type ExplainedText = Option<Result<Arc<str>, Unexplainable>>;

/// A statement that may be explained.
#[derive(Debug)]
pub(in crate::database) struct TextToExplain {
    pub(in crate::database) sql: Result<Arc<str>, Unexplainable>,
    pub(in crate::database) shape: String,
    pub(in crate::database) pool: Arc<str>,
    /// Its calls so far.
    pub(in crate::database) calls: HistogramSnapshot,
}

/// What a statement has cost since it was first seen.
#[derive(Clone, Copy, Debug)]
pub(in crate::database) struct StatementCost {
    pub(in crate::database) number: NonZeroU32,
    pub(in crate::database) calls: u64,
    pub(in crate::database) seconds: f64,
    pub(in crate::database) is_explainable: bool,
}

impl Statement {
    /// Keeps a text of this statement to be explained, if it may be, and there is none yet.
    pub(super) fn keep_text(&self, sql: &str, dialect: Dialect) {
        let mut explained = lock(&self.shape().explained);
        if !matches!(&*explained, Some(Ok(_))) {
            *explained =
                Some(sql::explainable(sql, dialect, self.shape().operation()).map(Arc::from));
        }
    }
}

impl Statements {
    /// Keeps the texts of statements from now on, to explain them.
    pub(in crate::database) fn keep_texts(&self) {
        self.table().keeps_texts.store(true, Relaxed);
    }

    /// Whether texts are kept.
    pub(super) fn keeps_texts(&self) -> bool {
        self.table().keeps_texts.load(Relaxed)
    }

    /// Whether the table keeps the statement of this number.
    pub(in crate::database) fn keeps(&self, number: NonZeroU32) -> bool {
        self.find(number).is_some()
    }

    /// The text of a statement. `None` if the statement is not kept, or has not run since texts are kept.
    pub(in crate::database) fn text_to_explain(&self, number: NonZeroU32) -> Option<TextToExplain> {
        let statement = self.find(number)?;
        let sql = lock(&statement.shape().explained).clone()?;
        let shape = statement.shape();
        Some(TextToExplain {
            sql,
            shape: shape.text().to_owned(),
            pool: Arc::clone(shape.pool()),
            calls: statement.calls(),
        })
    }

    /// What the statements of a pool have cost.
    pub(in crate::database) fn costs(&self, pool: &str) -> Vec<StatementCost> {
        let statements = self.list().into_iter();
        statements
            .filter(|statement| &**statement.shape().pool() == pool)
            .map(|statement| {
                let calls = statement.calls();
                StatementCost {
                    number: statement.number(),
                    calls: calls.count,
                    seconds: calls.sum,
                    is_explainable: matches!(&*lock(&statement.shape().explained), Some(Ok(_))),
                }
            })
            .collect()
    }
}
