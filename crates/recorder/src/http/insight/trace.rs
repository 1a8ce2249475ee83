//! The trace that a request belongs to, read from the `traceparent` header of the
//! [W3C Trace Context](https://www.w3.org/TR/trace-context/). Nothing is traced here. The trace's id is added to metrics,
//! log lines and answers, so that the trace can be found from them.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use vitals_registry::SpanContext;

use crate::subscriber::log_span;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The response header that contains the trace's id.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The trace that a request belongs to.
#[derive(Debug)]
pub(in crate::http) struct Trace {
    parent: TraceParent,
    /// Adds the trace's id to the request's log lines. It has the highest level, so that any filter that keeps a line
    /// keeps the id.
    pub(in crate::http) log_span: tracing::Span,
}

impl Trace {
    #[cold]
    pub(in crate::http) fn boxed(parent: TraceParent) -> Box<Self> {
        let trace_id = format!("{:032x}", parent.span.trace_id);
        Box::new(Self {
            parent,
            log_span: log_span(|| tracing::error_span!("request", trace_id)),
        })
    }

    /// The trace's id.
    pub(in crate::http) fn id(&self) -> u128 {
        self.parent.span.trace_id
    }

    /// The caller's span.
    pub(in crate::http) fn parent(&self) -> TraceParent {
        self.parent
    }

    /// The span for exemplars, if the caller may have recorded it.
    pub(in crate::http) fn sampled_span(&self) -> Option<SpanContext> {
        self.parent.sampled.then_some(self.parent.span)
    }

    /// Sets `x-request-id` to the trace's id, unless the handler has set that header.
    pub(in crate::http) fn add_request_id(&self, headers: &mut HeaderMap) {
        let id = format!("{:032x}", self.id());
        if let (false, Ok(id)) = (headers.contains_key(&REQUEST_ID), HeaderValue::try_from(id)) {
            headers.insert(REQUEST_ID.clone(), id);
        }
    }
}

/// The caller's span, as a `traceparent` header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace's id and the caller's span in it.
    pub span: SpanContext,
    /// Whether the caller may have recorded the trace. Exemplars refer to recorded traces only.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads the header of a request. `None` without a header, with several, or with a malformed one.
    pub(in crate::http) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&TRACEPARENT);
        let value = values.next()?;
        Self::of_values(value, values)
    }

    /// Apart from the common path: many requests have no such header.
    #[inline(never)]
    fn of_values<'a>(
        value: &HeaderValue,
        mut others: impl Iterator<Item = &'a HeaderValue>,
    ) -> Option<Self> {
        (others.next().is_none()).then(|| Self::parse(value.as_bytes()))?
    }

    /// Parses a header's value: `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, in lower case.
    ///
    /// Versions above 00 may have more fields after another dash, which are ignored. Version ff, and ids that are all
    /// zeros, are invalid (sections 3.2.2 and 4.3 of the recommendation).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (fixed, rest) = value.split_at_checked(55)?;
        let [b'-', b'-', b'-'] = [fixed[2], fixed[35], fixed[52]] else {
            return None;
        };
        let version = hex(&fixed[0..2])?;
        let trace_id = hex(&fixed[3..35])?;
        let span_id = u64::try_from(hex(&fixed[36..52])?).ok()?;
        let flags = hex(&fixed[53..55])?;
        let well_ended = rest.is_empty() || (version > 0 && rest[0] == b'-');
        (version != 0xff && well_ended && trace_id != 0 && span_id != 0).then_some(Self {
            span: SpanContext { trace_id, span_id },
            sampled: flags & 1 == 1,
        })
    }
}

/// The value of at most 32 lower-case hex digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_header_gives_the_trace_the_span_and_the_sampled_flag() {
        let parsed = TraceParent::parse(VALID.as_bytes()).unwrap();
        assert_eq!(
            parsed.span.trace_id,
            0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736
        );
        assert_eq!(parsed.span.span_id, 0x00f0_67aa_0ba9_02b7);
        assert!(parsed.sampled);
    }

    #[test]
    fn only_headers_that_the_recommendation_allows_are_read() {
        let cases = [
            (VALID.replace("-01", "-00"), Some(false), "not sampled"),
            (
                VALID.replace("-01", "-03"),
                Some(true),
                "another flag beside sampled",
            ),
            (
                VALID.replace("-01", "-02"),
                Some(false),
                "another flag alone",
            ),
            (
                format!("cc{}", &VALID[2..]),
                Some(true),
                "a version of the future",
            ),
            (
                format!("cc{}-more", &VALID[2..]),
                Some(true),
                "with another field",
            ),
            (
                format!("cc{}more", &VALID[2..]),
                None,
                "another field without a dash",
            ),
            (
                format!("{VALID}-more"),
                None,
                "version 00 has no other fields",
            ),
            (
                format!("ff{}", &VALID[2..]),
                None,
                "version ff is forbidden",
            ),
            (VALID.to_uppercase(), None, "upper case"),
            (
                VALID.replace("00f067aa0ba902b7", "0000000000000000"),
                None,
                "no span",
            ),
            (
                VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
                None,
                "no trace",
            ),
            (VALID.replace('-', "_"), None, "no dashes"),
            (VALID[..54].to_owned(), None, "a digit short"),
            (String::new(), None, "empty"),
        ];
        for (value, sampled, why) in cases {
            let parsed = TraceParent::parse(value.as_bytes());
            assert_eq!(
                parsed.map(|parent| parent.sampled),
                sampled,
                "{why}: {value}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(value in prop::collection::vec(any::<u8>(), 0..80)) {
            TraceParent::parse(&value);
        }

        #[test]
        fn every_rendered_span_is_read_back(trace_id in 1..=u128::MAX, span_id in 1..=u64::MAX, sampled: bool) {
            let value = format!("00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(sampled));
            let expected = TraceParent { span: SpanContext { trace_id, span_id }, sampled };
            prop_assert_eq!(TraceParent::parse(value.as_bytes()), Some(expected));
        }
    }
}
