//! `PUT /ops/log`: another filter of the log, for a time. `GET /ops` shows the filter that is in use.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use serde::Serialize;

use super::{
    parameters::{invalid, required, whole},
    statements::rfc_3339,
};
use crate::log_control::{LogControl, LogState};
use vitals_recorder::problem::Problem;

/// The parameters of `PUT /ops/log`.
pub(super) const PARAMETERS: &[&str] = &["filter", "seconds"];

/// The longest time of a change: a day.
const MOST_SECONDS: u64 = 24 * 60 * 60;

/// The most directives of a filter.
const MOST_DIRECTIVES: usize = 20;

/// The longest target in a directive, in bytes.
const LONGEST_TARGET: usize = 100;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The filter that is in use.
#[derive(Serialize)]
pub(super) struct LogFilter {
    filter: String,
    configured: String,
    /// When the configured filter returns; `null` if it is in use.
    until: Option<String>,
}

impl From<LogState> for LogFilter {
    fn from(state: LogState) -> Self {
        Self {
            filter: state.filter,
            configured: state.configured,
            until: state.until.map(rfc_3339),
        }
    }
}

/// `PUT /ops/log?filter=FILTER&seconds=N`: logs by another filter for so long.
pub(crate) async fn put_log(
    request: HttpRequest,
    log: web::Data<LogControl>,
) -> Result<HttpResponse, Problem> {
    let (filter, time) = parameters(request.query_string())?;
    log.change(&filter, time).map_err(|_| {
        let detail = "The filter of the log cannot be replaced.";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(LogFilter::from(log.state())))
}

/// Parses the filter and its time. Ignores other parameters: the endpoint rejects them before.
fn parameters(query: &str) -> Result<(String, Duration), Problem> {
    let mut errors = Vec::new();
    let filter = required(query, "filter", &mut errors, |value| {
        is_filter(value).then(|| value.to_owned()).ok_or_else(|| {
            "must be a level (off, error, warn, info, debug, trace) or a list such as info,actix_server=warn"
                .to_owned()
        })
    });
    let seconds = required(query, "seconds", &mut errors, |value| {
        whole(value, &(1..=MOST_SECONDS))
    });
    match (filter, seconds) {
        (Some(filter), Some(seconds)) => Ok((filter, Duration::from_secs(seconds))),
        _ => Err(invalid(errors)),
    }
}

/// Whether the text is a list of levels, each for all targets or for one. Filters by spans and fields are not accepted.
fn is_filter(text: &str) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_:".contains(byte);
    let is_target = |target: &str| {
        (1..=LONGEST_TARGET).contains(&target.len()) && target.as_bytes().iter().all(is_part)
    };
    let is_directive = |directive: &str| match directive.split_once('=') {
        Some((target, level)) => is_target(target) && LEVELS.contains(&level),
        None => LEVELS.contains(&directive),
    };
    text.split(',').count() <= MOST_DIRECTIVES && text.split(',').all(is_directive)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use actix_web::{
        App,
        rt::time::sleep,
        test::{TestRequest, call_and_read_body_json, call_service, init_service},
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::{OpsChoice, OpsSettings, fixture};

    #[test]
    fn a_filter_is_a_list_of_levels_and_targets() {
        let many = vec!["a=info"; MOST_DIRECTIVES].join(",");
        for (filter, expected, why) in [
            ("info", true, "a level"),
            ("off", true, "none"),
            ("info,actix_server=warn,a::b=trace", true, "a list"),
            (many.as_str(), true, "the most directives"),
            (&format!("{many},info"), false, "one more"),
            (
                &format!("{}=info", "a".repeat(100)),
                true,
                "the longest target",
            ),
            (
                &format!("{}=info", "a".repeat(101)),
                false,
                "a longer target",
            ),
            ("", false, "empty"),
            ("info,", false, "an empty directive"),
            ("INFO", false, "upper case"),
            ("verbose", false, "an unknown level"),
            ("a", false, "a target without a level"),
            ("a=loud", false, "an unknown level of a target"),
            ("=info", false, "no target"),
            ("info, a=warn", false, "a space"),
            ("[span{x=\"y\"}]=info", false, "a span with a field"),
            ("a\n=info", false, "a line break"),
        ] {
            assert_eq!(is_filter(filter), expected, "{why}: {filter}");
        }
    }

    #[test]
    fn both_parameters_are_required_and_bounded() {
        for (query, expected, why) in [
            ("filter=info&seconds=1", None, "both"),
            (
                "filter=a%3Dinfo&seconds=86400&x=y",
                None,
                "another parameter, a day",
            ),
            ("", Some(vec!["filter", "seconds"]), "none"),
            ("filter=info", Some(vec!["seconds"]), "no time"),
            (
                "filter=info&seconds=0",
                Some(vec!["seconds"]),
                "no time at all",
            ),
            (
                "filter=info&seconds=86401",
                Some(vec!["seconds"]),
                "more than a day",
            ),
            (
                "filter=a&filter=b&seconds=1",
                Some(vec!["filter"]),
                "given twice",
            ),
        ] {
            let errors = parameters(query).err();
            let fields = errors.map(|problem| {
                let errors = problem.errors().iter();
                errors
                    .map(|error| error.field.to_string())
                    .collect::<Vec<_>>()
            });
            let expected = expected.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(fields, expected, "{why}: {query}");
        }
    }

    /// A control, and the filters that it has set, in their order.
    fn control() -> (LogControl, Arc<Mutex<Vec<String>>>) {
        let set = Arc::new(Mutex::new(Vec::new()));
        let control = LogControl::new("info", {
            let set = Arc::clone(&set);
            move |filter| {
                if filter == "broken=info" {
                    return Err("no such filter".to_owned());
                }
                set.lock().unwrap().push(filter.to_owned());
                Ok(())
            }
        });
        (control, set)
    }

    #[actix_web::test]
    async fn a_filter_is_used_for_its_time_and_shown_meanwhile() {
        let (control, set) = control();
        let settings = OpsSettings::new().with(OpsChoice::Index).with_log(control);
        let ops = fixture::ops(settings);
        let app = App::new().configure(|config| ops.configure(config, &|route| route));
        let app = init_service(app).await;
        let put = |query: &str| {
            let uri = format!("/ops/log?{query}");
            TestRequest::put().uri(&uri).to_request()
        };
        let shown = async || -> Value {
            let request = TestRequest::with_uri("/ops").to_request();
            let index: Value = call_and_read_body_json(&app, request).await;
            index["log"].clone()
        };
        let at_rest = json!({"filter": "info", "configured": "info", "until": null});
        assert_eq!(shown().await, at_rest);

        let answer: Value = call_and_read_body_json(&app, put("filter=trace&seconds=3600")).await;
        assert_eq!(
            (&answer["filter"], &answer["configured"]),
            (&json!("trace"), &json!("info"))
        );
        assert!(answer["until"].is_string(), "{answer}");
        assert_eq!(shown().await, answer);

        let answer = call_service(&app, put("filter=debug&seconds=1")).await;
        assert_eq!(answer.status(), 200);
        let filters = || set.lock().unwrap().clone();
        // The configured one is in use while the line about a change is logged.
        assert_eq!(filters(), ["trace", "info", "debug"]);
        while filters().len() < 4 {
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(filters(), ["trace", "info", "debug", "info"]);
        assert_eq!(shown().await, at_rest);
        assert_eq!(
            filters().len(),
            4,
            "the first timer has ended with its change"
        );
    }

    #[actix_web::test]
    async fn a_filter_that_the_log_does_not_take_leaves_the_configured_one() {
        let (control, set) = control();
        control.change("debug", Duration::from_secs(60)).unwrap();
        assert!(
            control
                .change("broken=info", Duration::from_secs(60))
                .is_err()
        );
        assert_eq!(*set.lock().unwrap(), ["debug", "info"]);
        assert_eq!(control.state().filter, "info");
    }

    #[actix_web::test]
    async fn there_is_no_filter_without_a_control() {
        let ops = fixture::ops(OpsSettings::everything().with(OpsChoice::Log));
        let app = App::new().configure(|config| ops.configure(config, &|route| route));
        let app = init_service(app).await;
        let request = TestRequest::put().uri("/ops/log?filter=info&seconds=1");
        assert_eq!(call_service(&app, request.to_request()).await.status(), 404);
    }
}
