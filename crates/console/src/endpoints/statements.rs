//! `GET /ops/statements` and `POST /ops/statements/reset`: the most costly statements, by shape.

use std::{num::NonZeroU32, time::SystemTime};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Serialize;

use super::parameters::{method, parameter, valid, whole};
use crate::heavy_answers::HeavyAnswers;
use vitals_recorder::{
    database::{Order, StatementFilter, StatementReport, Statements, sql::Operation},
    memory::client_of,
    problem::Problem,
};

/// The default of `limit`.
pub const DEFAULT_LIMIT: usize = 50;
/// The largest `limit`.
pub const MOST: usize = 1000;

/// The largest size that is expected of an entry in JSON, in bytes.
pub(super) const ENTRY_BYTES: usize = 5 * 1024;

/// The values of `sort`. The first is the default.
pub const ORDERS: [(&str, Order); 5] = [
    ("total", Order::Total),
    ("mean", Order::Mean),
    ("calls", Order::Calls),
    ("errors", Order::Errors),
    ("p95", Order::P95),
];

/// The parameters of `GET /ops/statements`.
pub(super) const PARAMETERS: &[&str] =
    &["sort", "limit", "method", "endpoint", "operation", "text"];

/// What the endpoints of jobs have in the place of a method.
const JOB: &str = "job";

#[derive(Serialize)]
struct Listing {
    /// When the counts began.
    since: String,
    statements: Vec<Entry>,
}

/// One statement. Times are in seconds.
#[derive(Serialize)]
pub(super) struct Entry {
    /// `null` for the statements that are not kept.
    id: Option<NonZeroU32>,
    statement: String,
    operation: &'static str,
    /// The pool that ran it; `null` outside of any pool, and for `(other)`.
    pool: Option<String>,
    calls: u64,
    errors: u64,
    /// Calls outside of any request and job.
    unattributed_calls: u64,
    total_seconds: f64,
    mean_seconds: f64,
    p95_seconds: f64,
    /// Always `null`: Diesel does not report the number of rows.
    rows: Option<u64>,
    endpoints: Vec<String>,
    first_seen: String,
    last_seen: String,
}

impl From<StatementReport> for Entry {
    fn from(report: StatementReport) -> Self {
        Self {
            id: report.number,
            statement: report.statement,
            operation: report.operation.label(),
            pool: report.pool,
            calls: report.calls,
            errors: report.errors,
            unattributed_calls: report.unattributed_calls,
            total_seconds: report.total_seconds,
            mean_seconds: report.mean_seconds,
            p95_seconds: report.p95_seconds,
            rows: None,
            endpoints: report.endpoints,
            first_seen: rfc_3339(report.first_seen),
            last_seen: rfc_3339(report.last_seen),
        }
    }
}

pub(super) fn rfc_3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// `GET /ops/statements?sort=total|mean|calls|errors|p95&limit=N`: the most costly statements, in descending order. By
/// default 50 of them by total time. `method`, `endpoint`, `operation` and `text` choose among them.
pub(crate) async fn get_statements(
    request: HttpRequest,
    statements: web::Data<Statements>,
    heavy_answers: web::Data<HeavyAnswers>,
) -> Result<HttpResponse, Problem> {
    let (filter, order, limit) = parameters(request.query_string())?;
    let listing = heavy_answers.make(client_of(&request), limit * ENTRY_BYTES, move || {
        let since = rfc_3339(statements.counted_since());
        let reports = statements.report_some(&filter, order, limit);
        let listing = Listing {
            since,
            statements: reports.into_iter().map(Entry::from).collect(),
        };
        // Cannot fail: strings and numbers always serialize.
        serde_json::to_vec(&listing).unwrap_or_default()
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("application/json")
        .body(listing.await?))
}

/// `POST /ops/statements/reset`: counts all statements from now on. The metrics keep their counts.
pub(crate) async fn reset_statements(statements: web::Data<Statements>) -> HttpResponse {
    statements.reset();
    HttpResponse::NoContent().finish()
}

/// Parses the filter, the order and the limit of a query string. Ignores other parameters: the endpoint rejects them before.
pub fn parameters(query: &str) -> Result<(StatementFilter, Order, usize), Problem> {
    let mut errors = Vec::new();
    let text = |value: &str| Ok(value.to_owned());
    let filter = StatementFilter {
        method: parameter(query, "method", &mut errors, |value| method(value, &[JOB])),
        endpoint: parameter(query, "endpoint", &mut errors, text),
        operation: parameter(query, "operation", &mut errors, |value| {
            let mut all = Operation::ALL.into_iter();
            let found = all.find(|operation| operation.label() == value);
            found.ok_or_else(|| "must be select, insert, update, delete or other".to_owned())
        }),
        text: parameter(query, "text", &mut errors, text),
    };
    let order = parameter(query, "sort", &mut errors, |value| {
        ORDERS
            .iter()
            .find(|(name, _)| *name == value)
            .map(|(_, order)| *order)
            .ok_or_else(|| "must be total, mean, calls, errors or p95".to_owned())
    });
    let limit = parameter(query, "limit", &mut errors, |value| {
        whole(value, &(1..=MOST))
    });
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    valid((filter, order.unwrap_or_default(), limit), errors)
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;

    use super::*;

    #[test]
    fn valid_parameters_are_parsed_and_others_are_rejected() {
        for (query, expected, why) in [
            ("", Some((Order::Total, 50)), "the defaults"),
            ("sort=p95&limit=1", Some((Order::P95, 1)), "both"),
            (
                "limit=1000&other=x",
                Some((Order::Total, 1000)),
                "another parameter",
            ),
            ("sort=", None, "no order"),
            ("sort=Total", None, "names are in lower case"),
            ("sort=mean&sort=mean", None, "given twice"),
            ("limit=0", None, "zero"),
            ("limit=1001", None, "too many"),
            ("limit=-1", None, "negative"),
            ("limit=ten", None, "no number"),
            ("limit=+5", None, "a sign"),
            ("limit=05", None, "a leading zero"),
            ("method=get", None, "no method"),
            ("method=job", Some((Order::Total, 50)), "a job"),
            ("operation=SELECT", None, "operations are in lower case"),
            ("text=a&text=b", None, "a text given twice"),
        ] {
            let found = parameters(query).ok();
            let found = found.map(|(_, order, limit)| (order, limit));
            assert_eq!(found, expected, "{why}: {query}");
        }
        let query = "method=GET&endpoint=/a/%7Bid%7D&operation=insert&text=Data";
        let (filter, ..) = parameters(query).unwrap();
        assert_eq!(
            filter,
            StatementFilter {
                method: Some("GET".to_owned()),
                endpoint: Some("/a/{id}".to_owned()),
                operation: Some(Operation::Insert),
                text: Some("Data".to_owned()),
            }
        );
    }

    #[test]
    fn every_invalid_parameter_is_named() {
        let problem = parameters("sort=a&limit=b").unwrap_err();
        assert_eq!(problem.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let fields: Vec<_> = problem.errors().iter().map(|error| &*error.field).collect();
        assert_eq!(fields, ["sort", "limit"]);
    }
}
