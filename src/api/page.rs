//! `?skip=&limit=&after=`: which part of a list is wanted, and where a list goes on.

use std::future::{Ready, ready};
use std::ops::RangeInclusive;

use actix_web::dev::Payload;
use actix_web::web::Query;
use actix_web::{FromRequest, HttpRequest};

use chrono::DateTime;

use super::problem::invalid;
use crate::store::{PageCursor, PageRequest};
use actix_vitals::problem::{FieldError, Problem};

/// Items that may be left out at the start.
pub(super) const SKIP: RangeInclusive<i64> = 0..=i64::MAX;
/// Most items that may be asked for.
pub(super) const LIMIT: RangeInclusive<i64> = 1..=1000;
/// Items that are left out unless told otherwise.
pub(super) const DEFAULT_SKIP: i64 = 0;
/// Most items that are given unless told otherwise.
pub(super) const DEFAULT_LIMIT: i64 = 100;

/// Most bytes of a page, in JSON; a page of one item may have more.
pub(super) const PAGE_BYTES: usize = 1024 * 1024;
/// The part of a list that a request asks for. Parameters of other names are ignored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageQuery {
    /// Items to leave out at the start: 0 or more; 0 by default.
    pub(super) skip: i64,
    /// Most items to give: 1 to 1000; 100 by default.
    pub(super) limit: i64,
    /// Where to begin; at the newest item by default.
    pub(super) after: Option<PageCursor>,
}

impl PageQuery {
    /// The request to the store.
    pub(super) fn request(&self) -> PageRequest {
        PageRequest {
            after: self.after,
            skip: self.skip,
            limit: self.limit,
            bytes: PAGE_BYTES,
        }
    }

    /// The link to the page that begins there (RFC 8288).
    pub(super) fn next_link(&self, next: PageCursor) -> String {
        let created_at = next.created_at.and_utc().timestamp_micros();
        let (id, limit) = (next.id, self.limit);
        format!("</data?after={created_at},{id}&limit={limit}>; rel=\"next\"")
    }
}

impl FromRequest for PageQuery {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(parse(request.query_string()))
    }
}

pub(super) fn parse(query: &str) -> Result<PageQuery, Problem> {
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
    let after = position(&parameters, &mut errors);
    if errors.is_empty() {
        Ok(PageQuery {
            skip: skip.unwrap_or(DEFAULT_SKIP),
            limit: limit.unwrap_or(DEFAULT_LIMIT),
            after,
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
    let value = only(parameters, name, errors)?;
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

/// The value of `after`, if it is given.
fn position(parameters: &[(String, String)], errors: &mut Vec<FieldError>) -> Option<PageCursor> {
    let value = only(parameters, "after", errors)?;
    let position = parse_position(value.trim_end());
    if position.is_none() {
        errors.push(FieldError::new(
            "after",
            "must be a place in the list, as a `next` link has it",
        ));
    }
    position
}

fn parse_position(value: &str) -> Option<PageCursor> {
    let (created_at, id) = value.split_once(',')?;
    let number = |digits: &str, most: usize| {
        let is_number = digits.len() <= most && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_: &i64| is_number)
    };
    Some(PageCursor {
        created_at: DateTime::from_timestamp_micros(number(created_at, 16)?)?.naive_utc(),
        id: number(id, 18)?,
    })
}

/// The value of a parameter, if it is given; to give it twice is an error.
fn only<'a>(
    parameters: &'a [(String, String)],
    name: &'static str,
    errors: &mut Vec<FieldError>,
) -> Option<&'a str> {
    let mut values = parameters
        .iter()
        .filter(|(given, _)| given == name)
        .map(|(_, value)| value.as_str());
    let value = values.next()?;
    if values.next().is_some() {
        errors.push(FieldError::new(name, "must be given once"));
        return None;
    }
    Some(value)
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
            let page = PageQuery {
                skip,
                limit,
                after: None,
            };
            assert_eq!(parse(query), Ok(page), "{query}");
        }
    }

    #[test]
    fn a_next_link_leads_to_the_place_where_the_page_ended() {
        for (time, id, limit) in [
            ("2026-01-31T12:00:00.000001", 17, 100),
            ("1970-01-01T00:00:00", 999_999_999_999_999_999, 1),
            ("2286-11-20T17:46:39.999999", 1, 1000),
        ] {
            let next = PageCursor {
                created_at: time.parse().unwrap(),
                id,
            };
            let page = parse(&format!("limit={limit}&skip=3")).unwrap();
            let link = page.next_link(next);
            let (url, relation) = link.split_once(">; ").unwrap();
            assert_eq!(relation, "rel=\"next\"");
            let query = url.strip_prefix("</data?").unwrap();
            let expected = PageQuery {
                skip: 0,
                limit,
                after: Some(next),
            };
            assert_eq!(parse(query), Ok(expected), "{link}");
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
            ("after=", &["after"]),
            ("after=1", &["after"]),
            ("after=1,", &["after"]),
            ("after=,1", &["after"]),
            ("after=-1,1", &["after"]),
            ("after=+1,1", &["after"]),
            ("after=10000000000000000,1", &["after"]),
            ("after=1,1000000000000000000", &["after"]),
            ("after=1,1&after=1,1", &["after"]),
        ] {
            let problem = parse(query).unwrap_err();
            assert_eq!(problem.status(), 422, "{query}");
            let named: Vec<_> = problem.errors().iter().map(|error| &error.field).collect();
            assert_eq!(named, fields, "{query}");
        }
    }
}
