//! The plan of a statement in JSON, as a part of `GET /ops/statements/{id}`.

use serde::Serialize;
use vitals_recorder::database::{Plan, PlanChange, PlanFlag, PlanReport, PlanStep};

use crate::endpoints::statements::rfc_3339;

/// What a plan is, for all who read one.
const NOTE: &str = "A generic plan: the database would choose it for the text of the statement. The values of one call may have led to another plan. The statement was not executed.";

/// The largest size that is expected of a step in JSON, in bytes.
const STEP_BYTES: usize = 1024;

/// What is known of the plan of a statement.
#[derive(Serialize)]
pub(super) struct PlanEntry {
    note: &'static str,
    /// `null` if the database has not been asked yet, or gives no plan: see `reason`.
    current: Option<Chosen>,
    /// Why there is no plan, or none of now.
    reason: Option<String>,
    /// The plans before, the latest change first.
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Chosen {
    /// The same for plans that differ only in costs and rows.
    fingerprint: String,
    since: String,
    checked: String,
    flags: Vec<Flag>,
    root: Step,
}

#[derive(Serialize)]
struct Flag {
    kind: &'static str,
    sentence: String,
    advice: Option<String>,
}

/// A step of a plan. Rows and costs are the planner's estimates.
#[derive(Serialize)]
struct Step {
    operation: String,
    table: Option<String>,
    index: Option<String>,
    index_columns: Vec<String>,
    rows: Option<f64>,
    table_rows: Option<f64>,
    cost: Option<f64>,
    conditions: Vec<Condition>,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Condition {
    name: String,
    /// Without values.
    text: String,
}

#[derive(Serialize)]
struct Change {
    at: String,
    p95_before_seconds: Option<f64>,
    p95_after_seconds: Option<f64>,
    before: Chosen,
}

impl PlanEntry {
    /// About the size of the entry in JSON, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let before = self.changes.iter().map(|change| &change.before);
        let plans = self.current.iter().chain(before);
        plans.map(|plan| plan.root.bytes()).sum::<usize>() + STEP_BYTES
    }
}

impl Step {
    fn bytes(&self) -> usize {
        STEP_BYTES + self.steps.iter().map(Self::bytes).sum::<usize>()
    }
}

impl From<PlanReport> for PlanEntry {
    fn from(report: PlanReport) -> Self {
        Self {
            note: NOTE,
            current: report.plan.map(Chosen::from),
            reason: report.reason,
            changes: report.changes.into_iter().map(Change::from).collect(),
        }
    }
}

impl From<Plan> for Chosen {
    fn from(plan: Plan) -> Self {
        Self {
            fingerprint: plan.fingerprint,
            since: rfc_3339(plan.since),
            checked: rfc_3339(plan.checked),
            flags: plan.flags.into_iter().map(Flag::from).collect(),
            root: plan.root.into(),
        }
    }
}

impl From<PlanFlag> for Flag {
    fn from(flag: PlanFlag) -> Self {
        Self {
            kind: flag.kind.label(),
            sentence: flag.sentence,
            advice: flag.advice,
        }
    }
}

impl From<PlanStep> for Step {
    fn from(step: PlanStep) -> Self {
        let conditions = step.conditions.into_iter();
        Self {
            operation: step.operation,
            table: step.table,
            index: step.index,
            index_columns: step.index_columns,
            rows: step.rows,
            table_rows: step.table_rows,
            cost: step.cost,
            conditions: conditions
                .map(|(name, text)| Condition { name, text })
                .collect(),
            steps: step.steps.into_iter().map(Self::from).collect(),
        }
    }
}

impl From<PlanChange> for Change {
    fn from(change: PlanChange) -> Self {
        Self {
            at: rfc_3339(change.at),
            p95_before_seconds: change.p95_before,
            p95_after_seconds: change.p95_after,
            before: change.before.into(),
        }
    }
}
