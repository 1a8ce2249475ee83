//! The extractor of `{item_id}` in a path.

use std::future::{Ready, ready};

use actix_vitals::problem::{FieldError, Problem};
use actix_web::{FromRequest, HttpRequest, dev::Payload};

use super::problem::{invalid, no_item};

/// The id of an item in the request's path.
///
/// It fails with 422 if the text is not an integer, and with 404 if the integer is too large for an id.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ItemId(pub(super) i64);

impl FromRequest for ItemId {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(parse(request.match_info().query("item_id")))
    }
}

fn parse(segment: &str) -> Result<ItemId, Problem> {
    let digits = segment.strip_prefix('-').unwrap_or(segment);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid(vec![FieldError::new(
            "item_id",
            "must be an integer",
        )]));
    }
    segment.parse().map(ItemId).map_err(|_| no_item())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_an_integer() {
        for (segment, id) in [
            ("1", 1),
            ("0", 0),
            ("-7", -7),
            ("007", 7),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse(segment), Ok(ItemId(id)), "{segment}");
        }
    }

    #[test]
    fn an_integer_that_is_too_large_for_an_id_is_not_found() {
        for segment in ["9223372036854775808", "-99999999999999999999999"] {
            assert_eq!(parse(segment).unwrap_err().status(), 404, "{segment}");
        }
    }

    #[test]
    fn any_other_text_is_invalid() {
        for segment in ["", "-", "+1", "1.0", "1e3", "abc", " 1", "0x1", "١", "--1"] {
            let problem = parse(segment).unwrap_err();
            assert_eq!(problem.status(), 422, "{segment}");
            assert_eq!(problem.errors()[0].field, "item_id", "{segment}");
        }
    }
}
