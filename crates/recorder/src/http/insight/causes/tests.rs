use std::time::Duration;

use actix_web::{ResponseError, http::StatusCode};

use super::*;
use crate::error_chain::tests::{Circular, Outer};

/// What no name may contain.
const SECRET: &str = "Hunter";

#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("the query failed: {0}")]
    Query(#[from] QueryError),
    #[error("{user} may not do that")]
    Forbidden { user: String },
}

#[derive(Debug, thiserror::Error)]
enum QueryError {
    #[error("constraint {0} is violated")]
    Violated(String),
    #[error("no answer")]
    Lost(#[source] io::Error),
}

impl ResponseError for StoreError {}

/// An error that shows its text in `Debug`.
#[derive(thiserror::Error)]
#[error("{0}")]
struct Shown(String);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ResponseError for Shown {}

/// An error that shows its text in `Debug` like a variant.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
struct Hidden(Raw);

struct Raw(&'static str);

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

fn violated() -> StoreError {
    QueryError::Violated(SECRET.to_owned()).into()
}

fn lost() -> StoreError {
    let error = io::Error::new(io::ErrorKind::TimedOut, SECRET);
    QueryError::Lost(error).into()
}

fn names(error: impl Into<actix_web::Error>) -> Vec<String> {
    let cause = FailureCause::of_error(&error.into());
    cause.types.into_iter().map(Cow::into_owned).collect()
}

#[test]
fn a_cause_is_the_chain_of_types_without_any_text() {
    let boxed = |error: StoreError| actix_web::Error::from(Box::<dyn StdError>::from(error));
    for (names, expected, why) in [
        (
            names(violated()),
            &["Query", "Violated"][..],
            "a derived error",
        ),
        (
            names(StoreError::Forbidden {
                user: SECRET.to_owned(),
            }),
            &["Forbidden"],
            "fields with names",
        ),
        (
            names(lost()),
            &["Query", "Lost", "Custom"],
            "sources of an error of Actix are not known",
        ),
        (
            names(boxed(lost())),
            &["Query", "Lost", "Custom", "std::io::Error(TimedOut)"],
            "those of a boxed error are",
        ),
        (
            names(Shown(SECRET.to_owned())),
            &[],
            "a text that looks like a name",
        ),
        (
            names(Shown(format!("{SECRET}(1)"))),
            &[],
            "one with an argument",
        ),
        (
            names(Shown(format!("{SECRET} is wrong"))),
            &[],
            "a sentence",
        ),
        (
            names(io::Error::other(SECRET)),
            &["std::io::error::Error", "std::io::Error(Other)"],
            "an error of the standard library",
        ),
        (
            names(PayloadError::Overflow),
            &["actix_http::error::PayloadError", "Overflow"],
            "an error of Actix",
        ),
        (
            names(actix_web::error::ErrorInternalServerError(SECRET)),
            &[],
            "a text in place of an error",
        ),
    ] {
        assert_eq!(names, expected, "{why}");
        assert!(names.iter().all(|name| !name.contains(SECRET)), "{names:?}");
    }
}

#[test]
fn a_chain_of_errors_without_an_end_is_followed_for_a_while() {
    let boxed = Box::<dyn StdError>::from(Outer(Circular));
    assert_eq!(names(boxed), ["Outer", "Circular"]);
    let problem = Problem::new(StatusCode::BAD_GATEWAY, "failed").caused_by(&Circular);
    assert_eq!(problem.causes().last().unwrap(), "Circular");
}

#[test]
fn a_name_within_a_hand_written_debug_ends_the_chain_where_it_is_no_name() {
    for (debug, expected) in [
        ("two words", vec!["Hidden"]),
        ("lower", vec!["Hidden"]),
        ("\"Quoted\"", vec!["Hidden"]),
        ("12", vec!["Hidden"]),
        ("Ab12", vec!["Hidden"]),
        ("Inner { a: 1 }", vec!["Hidden", "Inner"]),
        ("", vec!["Hidden"]),
    ] {
        let error = Hidden(Raw(debug));
        let found = names_of_debug(&error, &error);
        assert_eq!(found, expected, "{debug}");
    }
}

#[test]
fn a_problem_has_its_title_and_the_error_that_caused_it() {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, SECRET).caused_by(&violated());
    let cause = FailureCause::of_error(&problem.clone().into());
    assert_eq!(cause.title, Some("Service Unavailable"));
    assert_eq!(cause.types[0], "Problem");
    assert!(cause.types[1].ends_with("StoreError"), "{:?}", cause.types);
    assert_eq!(cause.types[2..], ["Query", "Violated"]);
    assert!(!format!("{cause:?}").contains(SECRET));
    // A title that was made at run time may contain anything.
    let problem = problem.with_type("about:blank", SECRET.to_owned());
    assert_eq!(FailureCause::of_error(&problem.into()).title, None);
}

fn groups() -> FailureGroups {
    FailureGroups::new(OpsEndpoints::new(["/metrics"]))
}

#[test]
fn failures_are_counted_by_endpoint_status_and_cause() {
    let groups = groups();
    let add =
        |endpoint: &str, status, cause| groups.add("GET", &endpoint.into(), status, cause, None);
    let answer = || FailureCause::of_kind(FailureKind::Answer);
    for _ in 0..3 {
        add("/a", 500, answer());
    }
    add("/a", 503, answer());
    add("/b", 500, answer());
    add(
        "/a",
        500,
        FailureCause::of_panic(Some("src/a.rs:1:2".to_owned())),
    );
    add("/metrics", 503, answer());
    let list = groups.list();
    let counts: Vec<_> = (list.iter())
        .map(|group| {
            (
                &*group.endpoint,
                group.status,
                group.cause.kind,
                group.count,
            )
        })
        .collect();
    assert_eq!(counts.len(), 4, "{counts:?}");
    assert!(counts.contains(&("/a", 500, FailureKind::Answer, 3)));
    assert!(list.is_sorted_by_key(|group| std::cmp::Reverse(group.last_seen)));
    assert!(list.iter().all(|group| group.first_seen <= group.last_seen));
}

#[test]
fn the_groups_are_bounded_and_the_one_not_seen_for_longest_goes() {
    let groups = groups();
    for number in 0..1_000 {
        let endpoint = format!("/{number}").into();
        groups.add(
            "GET",
            &endpoint,
            500,
            FailureCause::of_kind(FailureKind::Error),
            None,
        );
    }
    let list = groups.list();
    assert_eq!(list.len(), MOST_GROUPS);
    assert!(list.iter().any(|group| &*group.endpoint == "/999"));
    assert!(!list.iter().any(|group| &*group.endpoint == "/0"));
}

#[test]
fn the_order_of_groups_does_not_depend_on_the_clock_of_the_system() {
    let groups = groups();
    let add = |endpoint: String| {
        let cause = FailureCause::of_kind(FailureKind::Error);
        groups.add("GET", &endpoint.into(), 500, cause, None);
    };
    let first = |list: &[FailureGroup]| list[0].endpoint.to_string();
    for number in 0..MOST_GROUPS {
        add(format!("/{number}"));
    }
    // The clock was ahead until now.
    for group in groups.lock().iter_mut() {
        group.last_seen += Duration::from_secs(3600);
    }
    for number in [0, 1] {
        add(format!("/{number}"));
        assert_eq!(first(&groups.list()), format!("/{number}"));
    }
    for number in [1_000, 1_001] {
        add(format!("/{number}"));
    }
    let endpoints: Vec<_> = (groups.list().iter())
        .map(|group| group.endpoint.to_string())
        .collect();
    assert_eq!(endpoints[..4], ["/1001", "/1000", "/1", "/0"]);
    assert_eq!(endpoints.len(), MOST_GROUPS);
    for gone in ["/2", "/3"] {
        assert!(!endpoints.iter().any(|kept| kept == gone), "{gone}");
    }
}
