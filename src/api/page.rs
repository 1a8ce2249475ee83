//! The extractor of `?skip=&limit=&after=`, and the link to the next page.

use std::{
    future::{Ready, ready},
    ops::RangeInclusive,
};

use actix_vitals::problem::{FieldError, Problem};
use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Query};
use chrono::DateTime;

use super::problem::invalid;
use crate::store::{PageCursor, PageRequest};

/// The accepted values of `skip`.
pub(super) const SKIP: RangeInclusive<i64> = 0..=i64::MAX;
/// The accepted values of `limit`.
pub(super) const LIMIT: RangeInclusive<i64> = 1..=1000;
/// The default of `skip`.
pub(super) const DEFAULT_SKIP: i64 = 0;
/// The default of `limit`.
pub(super) const DEFAULT_LIMIT: i64 = 100;

/// Most bytes of a page in JSON. A page of one item may have more.
pub(super) const PAGE_BYTES: usize = 1024 * 1024;
/// The requested page of a list. Other parameters are ignored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageQuery {
    /// Items to skip at the start: at least 0, by default 0.
    pub(super) skip: i64,
    /// Most items of the page: 1 to 1000, by default 100.
    pub(super) limit: i64,
    /// The position to start after. By default the page starts at the newest item.
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

    /// The link to the page that starts after this position (RFC 8288).
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
                "must be a list of parameters with values",
            )])
        })?
        .into_inner();
    let mut errors = Vec::new();
    let skip = number(&parameters, "skip", &SKIP, &mut errors);
    let limit = number(&parameters, "limit", &LIMIT, &mut errors);
    let after = cursor(&parameters, &mut errors);
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

/// The number in a parameter. `None` if it is missing or invalid; the latter is added to `errors`.
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

/// The cursor in the parameter `after`. `None` if it is missing or invalid; the latter is added to `errors`.
fn cursor(parameters: &[(String, String)], errors: &mut Vec<FieldError>) -> Option<PageCursor> {
    let value = only(parameters, "after", errors)?;
    let cursor = parse_cursor(value.trim_end());
    if cursor.is_none() {
        errors.push(FieldError::new(
            "after",
            "must be a cursor from a `next` link",
        ));
    }
    cursor
}

fn parse_cursor(value: &str) -> Option<PageCursor> {
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

/// The value of a parameter, if it is present. A repeated parameter is added to `errors`.
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
        errors.push(FieldError::new(name, "must not be repeated"));
        return None;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_parsed_from_the_query() {
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
    fn a_next_link_has_the_position_where_the_page_ended() {
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
    fn each_invalid_parameter_is_named() {
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
