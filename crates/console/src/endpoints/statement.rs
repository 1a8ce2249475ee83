//! `GET /ops/statements/{id}`: one statement, with its last hour, its plan and the kept requests that ran it.
//!
//! Like `requests`, the worker that is asked makes the answer, so that a service whose workers are stuck can be asked.

use std::num::NonZeroU32;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::Serialize;
use vitals_recorder::{
    database::{StatementDetail, StatementMinute, Statements},
    http::KeptFilter,
    problem::Problem,
};

use crate::{
    endpoints::{
        OpsChoice,
        inline_answer::inline_answer,
        kept,
        plan::PlanEntry,
        statements::{self, rfc_3339},
    },
    ops::Ops,
    watched::Watched,
};

/// The most kept requests that are listed, the newest.
const KEPT_REQUESTS: usize = 20;

/// The largest size that is expected of the answer, in bytes: 60 minutes of about a hundred each, and the rest.
const BYTES: usize = statements::ENTRY_BYTES + 60 * 128 + KEPT_REQUESTS * kept::ENTRY_BYTES;

/// One statement.
#[derive(Serialize)]
struct Statement {
    #[serde(flatten)]
    cost: statements::Entry,
    /// The last hour, minute by minute. The last minute is not over.
    history: Vec<Minute>,
    /// The newest kept requests that ran it. `GET /ops/requests/kept?statement=…` lists all of them. `null` if the service
    /// does not show requests.
    kept_requests: Option<Vec<kept::Entry>>,
    /// What the database would do for it. `null` for a statement that is not explained.
    plan: Option<PlanEntry>,
}

#[derive(Serialize)]
struct Minute {
    /// When it began.
    at: String,
    calls: u64,
    /// `null` without calls.
    p95_seconds: Option<f64>,
}

impl From<&StatementMinute> for Minute {
    fn from(minute: &StatementMinute) -> Self {
        Self {
            at: rfc_3339(minute.start),
            calls: minute.calls,
            p95_seconds: minute.p95_seconds,
        }
    }
}

/// `GET /ops/statements/{id}`: one statement, if it is kept.
pub(crate) async fn get_statement(
    request: HttpRequest,
    ops: web::Data<Ops>,
    statements: web::Data<Statements>,
) -> Result<HttpResponse, Problem> {
    // The scope that the endpoint is mounted in may have parameters, too.
    let id = request.match_info().get("id").unwrap_or_default();
    let number = id.parse().ok();
    let detail = number.and_then(|number| statements.detail(number));
    let statement = statement_of(detail.ok_or_else(not_found)?, &ops);
    let bytes = BYTES + statement.plan.as_ref().map_or(0, PlanEntry::bytes);
    inline_answer(&request, ops.watched(), bytes, &statement)
}

fn not_found() -> Problem {
    let detail = "No statement with this id is kept. Ids change when the process starts, and statements give way to costlier ones.";
    Problem::new(StatusCode::NOT_FOUND, detail)
}

fn statement_of(detail: StatementDetail, ops: &Ops) -> Statement {
    let database = ops.watched().database.as_ref();
    let number = detail.report.number;
    Statement {
        plan: (database.zip(number)).map(|(database, number)| database.plan(number).into()),
        history: detail.history.iter().map(Minute::from).collect(),
        kept_requests: ops
            .has(OpsChoice::Requests)
            .then(|| kept_requests(detail.report.number, ops.watched())),
        cost: detail.report.into(),
    }
}

fn kept_requests(statement: Option<NonZeroU32>, watched: &Watched) -> Vec<kept::Entry> {
    let kept = watched.http.kept().list(&KeptFilter {
        statement,
        ..KeptFilter::default()
    });
    (kept.iter().take(KEPT_REQUESTS))
        .map(|request| kept::Entry::from(&**request))
        .collect()
}
