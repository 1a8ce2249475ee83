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
    suspicions::LocatedSuspicion,
};

use crate::{
    endpoints::{
        OpsChoice,
        inline_answer::inline_answer,
        kept, parameters,
        plan::PlanEntry,
        statements::{self, rfc_3339},
    },
    ops::Ops,
    watched::Watched,
};

/// The most kept requests that are listed, the newest.
const KEPT_REQUESTS: usize = 20;

/// The most code locations that are listed, the latest.
const CODE_LOCATIONS: usize = 20;

/// The largest size that is expected of the answer, in bytes: 60 minutes of about a hundred each, and the rest.
const BYTES: usize =
    statements::ENTRY_BYTES + 60 * 128 + (KEPT_REQUESTS + CODE_LOCATIONS) * kept::ENTRY_BYTES;

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
    /// The code that ran it when it was suspicious, the latest first.
    code_locations: Vec<LocationEntry>,
}

/// The code that ran a statement for one endpoint or job.
#[derive(Serialize)]
struct LocationEntry {
    /// `request`, `job` or `outside`.
    kind: &'static str,
    method: Option<&'static str>,
    /// The endpoint or the job's name; `null` if it is not known.
    endpoint: Option<String>,
    suspicions: Vec<SuspicionEntry>,
    /// From the directory of its crate on.
    file: Option<String>,
    line: Option<u32>,
    function: Option<String>,
    /// Why the location is not known, or not fully.
    note: Option<&'static str>,
    /// When the stack was captured.
    captured_at: String,
}

#[derive(Serialize)]
struct SuspicionEntry {
    suspicion: &'static str,
    advice: &'static str,
}

impl From<LocatedSuspicion> for LocationEntry {
    fn from(located: LocatedSuspicion) -> Self {
        let location = located.location.as_ref();
        let suspicions = located.suspicions.iter();
        Self {
            kind: located.owner.kind.label(),
            method: located.owner.method,
            endpoint: located.owner.name.as_deref().map(str::to_owned),
            suspicions: suspicions
                .map(|suspicion| SuspicionEntry {
                    suspicion: suspicion.label(),
                    advice: suspicion.advice(),
                })
                .collect(),
            file: location.and_then(|location| location.file.as_deref().map(str::to_owned)),
            line: location.and_then(|location| location.line),
            function: location.map(|location| location.function.to_string()),
            note: located.note,
            captured_at: rfc_3339(located.captured_at),
        }
    }
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
    let number = parameters::number(id);
    let detail = number.and_then(|number| statements.detail(number));
    let statement = statement_of(detail.ok_or_else(not_found)?, &ops, &statements);
    let bytes = BYTES + statement.plan.as_ref().map_or(0, PlanEntry::bytes);
    inline_answer(&request, ops.watched(), bytes, &statement)
}

fn not_found() -> Problem {
    let detail = "No statement with this id is kept. Ids change when the process starts, and statements give way to costlier ones.";
    Problem::new(StatusCode::NOT_FOUND, detail)
}

fn statement_of(detail: StatementDetail, ops: &Ops, statements: &Statements) -> Statement {
    let database = ops.watched().database.as_ref();
    let number = detail.report.number;
    let located = number.map(|number| statements.suspicions().of_statement(number));
    let located = located.into_iter().flatten().take(CODE_LOCATIONS);
    Statement {
        code_locations: located.map(LocationEntry::from).collect(),
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
