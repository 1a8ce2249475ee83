//! `?skip=&limit=`: which part of a list is wanted.

use std::future::{Ready, ready};
use std::ops::RangeInclusive;

use actix_web::dev::Payload;
use actix_web::web::Query;
use actix_web::{FromRequest, HttpRequest};

use super::problem::invalid;
use crate::vitals::problem::{FieldError, Problem};

/// Items that may be left out at the start.
pub(super) const SKIP: RangeInclusive<i64> = 0..=i64::MAX;
/// Most items that may be asked for.
pub(super) const LIMIT: RangeInclusive<i64> = 1..=1000;
/// Items that are left out unless told otherwise.
pub(super) const DEFAULT_SKIP: i64 = 0;
/// Most items that are given unless told otherwise.
pub(super) const DEFAULT_LIMIT: i64 = 100;

/// The part of a list that a request asks for. Parameters of other names are ignored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Items to leave out at the start: 0 or more; 0 by default.
    pub(super) skip: i64,
    /// Most items to give: 1 to 1000; 100 by default.
    pub(super) limit: i64,
}

impl FromRequest for Page {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(parse(request.query_string()))
    }
}

pub(super) fn parse(query: &str) -> Result<Page, Problem> {
    let parameters = Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|_| {
            invalid(vec![FieldError::new(
                "query",
                "must be a list of names and values",
            )])
        })?
        .into_inner();
    let mut errors = Vec::new();
    let skip = number(&parameters, "skip", &SKIP, &mut errors);
    let limit = number(&parameters, "limit", &LIMIT, &mut errors);
    if errors.is_empty() {
        Ok(Page {
            skip: skip.unwrap_or(DEFAULT_SKIP),
            limit: limit.unwrap_or(DEFAULT_LIMIT),
        })
    } else {
        Err(invalid(errors))
    }
}

/// The value of a parameter that is given once, or none; everything else is an error.
fn number(
    parameters: &[(String, String)],
    name: &'static str,
    range: &RangeInclusive<i64>,
    errors: &mut Vec<FieldError>,
) -> Option<i64> {
    let mut values = parameters
        .iter()
        .filter(|(given, _)| given == name)
        .map(|(_, value)| value);
    let value = values.next()?;
    if values.next().is_some() {
        errors.push(FieldError::new(name, "must be given once"));
        return None;
    }
    let number = Some(value)
        .filter(|value| !value.starts_with('+'))
        .and_then(|value| value.parse().ok())
        .filter(|number| range.contains(number));
    if number.is_none() {
        errors.push(FieldError::new(
            name,
            format!(
                "must be an integer from {} to {}",
                range.start(),
                range.end()
            ),
        ));
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_from_the_query() {
        for (query, skip, limit) in [
            ("", 0, 100),
            ("skip=5", 5, 100),
            ("limit=1", 0, 1),
            ("limit=1000&skip=0", 0, 1000),
            ("skip=9223372036854775807", i64::MAX, 100),
            ("sort=name&limit=7&&x", 0, 7),
            ("%6cimit=%31", 0, 1),
        ] {
            assert_eq!(parse(query), Ok(Page { skip, limit }), "{query}");
        }
    }

    #[test]
    fn each_parameter_at_fault_is_named() {
        for (query, fields) in [
            ("limit=0", &["limit"][..]),
            ("limit=1001", &["limit"]),
            ("limit=-1", &["limit"]),
            ("limit=", &["limit"]),
            ("limit", &["limit"]),
            ("limit=ten", &["limit"]),
            ("limit=1.5", &["limit"]),
            ("limit=%FF", &["limit"]),
            ("limit=%2B5", &["limit"]),
            ("skip=%2B5", &["skip"]),
            ("skip=+5", &["skip"]),
            ("limit=1&limit=2", &["limit"]),
            ("skip=-1", &["skip"]),
            ("skip=9223372036854775808", &["skip"]),
            ("skip=x&limit=0", &["skip", "limit"]),
        ] {
            let problem = parse(query).unwrap_err();
            assert_eq!(problem.status(), 422, "{query}");
            let named: Vec<_> = problem.errors().iter().map(|error| &error.field).collect();
            assert_eq!(named, fields, "{query}");
        }
    }
}
