//! The `Server-Timing` header, which browsers show in their developer tools: where the time went until the answer's head.
//! <https://www.w3.org/TR/server-timing/>

use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::context::RequestContext;

static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Adds the header to those that the handler has set. Times are in milliseconds, as the specification demands.
///
/// `db` is the sum of the queries' times, and `pool` the sum of the waits for connections. `app` is the whole time since
/// the request was read, including both.
pub(in crate::http) fn add(
    headers: &mut HeaderMap,
    context: Option<&RequestContext>,
    elapsed: Duration,
) {
    let value = value(
        context.map_or(0, RequestContext::queries),
        context.map_or(Duration::ZERO, RequestContext::database_time),
        context.map_or(Duration::ZERO, RequestContext::pool_wait),
        elapsed,
    );
    // Names and digits are always a valid header value.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.append(SERVER_TIMING.clone(), value);
    }
}

fn value(queries: u64, database: Duration, pool: Duration, app: Duration) -> String {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let noun = if queries == 1 { "query" } else { "queries" };
    format!(
        "db;dur={:.3};desc=\"{queries} {noun}\", pool;dur={:.3}, app;dur={:.3}",
        milliseconds(database),
        milliseconds(pool),
        milliseconds(app),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_milliseconds_and_the_number_of_queries() {
        let microseconds = Duration::from_micros;
        assert_eq!(
            value(
                3,
                microseconds(12_345),
                microseconds(400),
                microseconds(15_100)
            ),
            "db;dur=12.345;desc=\"3 queries\", pool;dur=0.400, app;dur=15.100"
        );
        assert_eq!(
            value(1, Duration::ZERO, Duration::ZERO, Duration::ZERO),
            "db;dur=0.000;desc=\"1 query\", pool;dur=0.000, app;dur=0.000"
        );
    }

    #[test]
    fn the_header_of_the_handler_is_kept() {
        let mut headers = HeaderMap::new();
        headers.append(
            SERVER_TIMING.clone(),
            HeaderValue::from_static("cache;desc=hit"),
        );
        add(&mut headers, None, Duration::from_millis(1));
        let values: Vec<_> = headers.get_all(&SERVER_TIMING).collect();
        assert_eq!(values.len(), 2);
        assert_eq!(values[0], "cache;desc=hit");
    }
}
