//! The parameters of ops endpoints: how they are parsed, and what a request gets whose parameters are wrong.
//!
//! A wrong parameter is never ignored: an operator would take the answer for that of another question. Which names an
//! endpoint accepts is part of its entry in [`ENDPOINTS`](super::ENDPOINTS).

use std::{ops::RangeInclusive, str::FromStr};

use actix_web::http::StatusCode;
use vitals_recorder::{
    http::OTHER_METHOD,
    in_flight::METHOD_LABELS,
    problem::{FieldError, Problem},
};

/// The most unknown parameters that a problem names.
const MOST_NAMED: usize = 10;

/// The longest name of an unknown parameter that a problem repeats, in bytes.
const LONGEST_NAME: usize = 30;

/// The problem of parameters that break rules.
pub(super) fn invalid(errors: Vec<FieldError>) -> Problem {
    let detail = "The parameters of the request are not valid.";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with_errors(errors)
}

/// Returns what was parsed, unless a parameter broke a rule.
pub(super) fn valid<T>(parsed: T, errors: Vec<FieldError>) -> Result<T, Problem> {
    if errors.is_empty() {
        Ok(parsed)
    } else {
        Err(invalid(errors))
    }
}

/// Rejects the parameters of a query string whose names are not among `accepted`.
pub(crate) fn check_names(query: &str, accepted: &[&str]) -> Result<(), Problem> {
    let mut errors: Vec<FieldError> = Vec::new();
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if accepted.contains(&&*name) {
            continue;
        }
        let field = if is_shown(&name) {
            name.into_owned()
        } else {
            "(query)".to_owned()
        };
        if errors.len() < MOST_NAMED && errors.iter().all(|error| error.field != field) {
            let message = if accepted.is_empty() {
                "is not accepted: this endpoint has no parameters".to_owned()
            } else {
                format!("is not accepted: must be one of {}", accepted.join(", "))
            };
            errors.push(FieldError::new(field, message));
        }
    }
    valid((), errors)
}

/// Whether an unknown name may be part of a problem: it looks like a name, and not like a value.
fn is_shown(name: &str) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_lowercase() || b"_-[]".contains(byte);
    (1..=LONGEST_NAME).contains(&name.len()) && name.as_bytes().iter().all(is_letter)
}

/// Parses a parameter that is given at most once. Adds an error if it is given twice or is not valid.
pub(super) fn parameter<T>(
    query: &str,
    name: &'static str,
    errors: &mut Vec<FieldError>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let mut values = form_urlencoded::parse(query.as_bytes())
        .filter_map(|(key, value)| (key == name).then_some(value));
    let value = values.next()?;
    let parsed = match values.next() {
        Some(_) => Err("must be given once".to_owned()),
        None => parse(&value),
    };
    parsed
        .map_err(|message| errors.push(FieldError::new(name, message)))
        .ok()
}

/// Parses a parameter that must be given once.
pub(super) fn required<T>(
    query: &str,
    name: &'static str,
    errors: &mut Vec<FieldError>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let before = errors.len();
    let value = parameter(query, name, errors, parse);
    if value.is_none() && errors.len() == before {
        errors.push(FieldError::new(name, "must be given"));
    }
    value
}

/// Parses a whole number within a range.
pub(super) fn whole<T>(text: &str, range: &RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let number = number(text).filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (start, end) = (range.start(), range.end());
        format!("must be an integer from {start} to {end}")
    })
}

/// Parses the one form in which answers contain a whole number: digits without a sign and without leading zeros.
pub(super) fn number<T: FromStr>(text: &str) -> Option<T> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// Parses the method of a request, as answers and metrics name it, or one of `others`.
pub(super) fn method(text: &str, others: &[&str]) -> Result<String, String> {
    let mut known = METHOD_LABELS.iter().chain(others);
    if known.any(|known| *known == text) {
        return Ok(text.to_owned());
    }
    // The name that the metrics have by OpenTelemetry's conventions.
    if text == "_OTHER" {
        return Ok(OTHER_METHOD.to_owned());
    }
    let names: Vec<_> = METHOD_LABELS.iter().chain(others).copied().collect();
    Err(format!("must be one of {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a problem.
    fn fields(problem: &Problem) -> Vec<&str> {
        let errors = problem.errors().iter();
        errors.map(|error| &*error.field).collect()
    }

    #[test]
    fn unknown_parameters_are_named_with_what_is_accepted() {
        for (query, expected, why) in [
            ("", &[][..], "none"),
            ("sort=a&limit=b", &[], "values are not looked at"),
            ("limit=1&limit=2", &[], "nor how often they are given"),
            ("pool=a", &["pool"], "an unknown one"),
            ("Limit=1", &["(query)"], "names are in lower case"),
            ("limit=1&b=1&a&b=2", &["b", "a"], "each once"),
            ("%6Cimit=1&%70ool=a", &["pool"], "encoded"),
            ("&&", &[], "no name at all"),
            ("=1", &["(query)"], "an empty name"),
            ("hunter2=1", &["(query)"], "it may be a value"),
            (&"a".repeat(31), &["(query)"], "too long for a name"),
        ] {
            let problem = check_names(query, &["sort", "limit"]).err();
            let found = problem.as_ref().map(fields).unwrap_or_default();
            assert_eq!(found, expected, "{why}: {query}");
        }
        let problem = check_names("pool=a", &["sort", "limit"]).unwrap_err();
        assert_eq!(problem.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let message = &*problem.errors()[0].message;
        assert_eq!(message, "is not accepted: must be one of sort, limit");
        let problem = check_names("pool=a", &[]).unwrap_err();
        let message = &*problem.errors()[0].message;
        assert_eq!(message, "is not accepted: this endpoint has no parameters");
    }

    #[test]
    fn a_problem_is_bounded_however_many_parameters_there_are() {
        let query: Vec<_> = ('a'..='z').map(|name| format!("{name}=1")).collect();
        let problem = check_names(&query.join("&"), &[]).unwrap_err();
        assert_eq!(problem.errors().len(), MOST_NAMED);
    }

    #[test]
    fn a_number_has_one_form() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("1000", Some(1000)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("01", None),
            ("00", None),
            ("1.0", None),
            (" 1", None),
            ("1e3", None),
            ("0x1", None),
            ("\u{0661}", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
        assert_eq!(whole("7", &(1..=7)), Ok(7));
        let rule = "must be an integer from 1 to 7";
        assert_eq!(whole("8", &(1..=7)), Err(rule.to_owned()));
    }

    #[test]
    fn a_method_is_one_that_answers_contain() {
        for (text, expected) in [
            ("GET", Some("GET")),
            ("QUERY", Some("QUERY")),
            ("other", Some("other")),
            ("_OTHER", Some("other")),
            ("job", Some("job")),
            ("get", None),
            ("", None),
            ("BREW", None),
        ] {
            let found = method(text, &["job"]).ok();
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        assert!(method("job", &[]).is_err());
    }
}
