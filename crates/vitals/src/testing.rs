//! Assertions on what a service did, for its own tests.
//!
//! Give each test a monitoring of its own, send requests with `actix_web::test`, and look at the counts. A request is
//! counted when its answer has been read or dropped: read it with `call_and_read_body`, or drop the response first.
//!
#![cfg_attr(feature = "database", doc = "```")]
#![cfg_attr(not(feature = "database"), doc = "```ignore")]
//! use actix_vitals::{Vitals, database::Pool, testing::TestMetrics};
//! use actix_web::{App, HttpResponse, test, web};
//! use diesel::{RunQueryDsl, SqliteConnection, r2d2::ConnectionManager, sql_query};
//!
//! async fn orders(pool: web::Data<Pool<SqliteConnection>>) -> HttpResponse {
//!     let answer = pool.run(|connection| sql_query("SELECT 1").execute(connection)).await;
//!     answer.map_or_else(|_| HttpResponse::ServiceUnavailable(), |_| HttpResponse::Ok()).finish()
//! }
//!
//! # #[actix_web::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let vitals = Vitals::builder().build()?;
//! let pool = vitals
//!     .instrument(diesel::r2d2::Pool::builder().max_size(1))
//!     .build(ConnectionManager::<SqliteConnection>::new(":memory:"))?;
//! let app = App::new()
//!     .app_data(web::Data::new(pool))
//!     .route("/orders", web::get().to(orders))
//!     .wrap(vitals.http());
//! let app = test::init_service(app).await;
//! let metrics = TestMetrics::new(&vitals);
//!
//! test::call_and_read_body(&app, test::TestRequest::with_uri("/orders").to_request()).await;
//!
//! assert_eq!(metrics.requests("/orders", 200), 1);
//! assert_eq!(metrics.queries("/orders"), 1);
//! metrics.assert_queries_at_most("/orders", 3);
//! # Ok(())
//! # }
//! ```

use std::fmt;

use vitals_registry::{Counter, Family};

use crate::Vitals;

/// The names of the labels for endpoint and status, in each naming.
const LABELS: [[&str; 2]; 2] = [
    ["endpoint", "http_status"],
    ["http_route", "http_response_status_code"],
];

/// What a service has done since its monitoring was built, to assert on.
///
/// The [module](self) has an example.
#[derive(Clone)]
pub struct TestMetrics {
    vitals: Vitals,
}

impl TestMetrics {
    /// Reads the metrics of `vitals`. From now on the stack of the first run of each statement by each endpoint is captured,
    /// so that a budget of queries that is exceeded names their lines of code.
    pub fn new(vitals: &Vitals) -> Self {
        #[cfg(feature = "database")]
        vitals.statements().suspicions().locate_all();
        Self {
            vitals: vitals.clone(),
        }
    }

    /// The number of requests that `endpoint` answered with `status`. The endpoint is the pattern of a route, such as
    /// `/orders/{id}`.
    pub fn requests(&self, endpoint: &str, status: u16) -> u64 {
        self.sum("http_requests_total", [endpoint, &status.to_string()])
            .unwrap_or_default()
    }

    /// The number of queries that the requests of `endpoint` have run.
    ///
    /// # Panics
    ///
    /// Panics if no request of `endpoint` was counted, or if the queries of requests are
    /// [not recorded](crate::Builder::database_tally).
    #[cfg(feature = "database")]
    #[track_caller]
    pub fn queries(&self, endpoint: &str) -> u64 {
        let Some(requests) = self.sum("http_request_db_queries_count", [endpoint]) else {
            panic!("the queries of requests are not recorded: Builder::database_tally is off");
        };
        assert!(
            requests > 0,
            "no request of {endpoint} was counted: its answer is read or dropped first. Counted are {self:?}"
        );
        self.sum("http_request_db_queries_sum", [endpoint])
            .unwrap_or_default()
    }

    /// Checks that the requests of `endpoint` have run at most `most` queries, all together.
    ///
    /// # Panics
    ///
    /// Panics if they have run more, and names the statements that the endpoint has run, what their repetitions are, and the
    /// lines of code that ran them. Panics for the reasons of [`queries`](Self::queries).
    #[cfg(feature = "database")]
    #[track_caller]
    pub fn assert_queries_at_most(&self, endpoint: &str, most: u64) {
        let queries = self.queries(endpoint);
        assert!(
            queries <= most,
            "{endpoint} ran {queries} queries, more than {most}. \
             Its statements, with their calls by any endpoint:\n{}",
            self.statements(endpoint)
        );
    }

    /// The statements that an endpoint has run, the most frequent first, one a line.
    #[cfg(feature = "database")]
    fn statements(&self, endpoint: &str) -> String {
        use std::fmt::Write as _;

        use crate::database::Order;

        let mut lines = String::new();
        let suspicions = self.vitals.statements().suspicions();
        suspicions.symbolise_all();
        for report in self.vitals.statements().report(Order::Calls, usize::MAX) {
            // Each caller is a method and an endpoint. Only the first few callers of a statement are listed.
            let ran = (report.endpoints.iter())
                .filter_map(|caller| caller.split_once(' '))
                .any(|(_, caller)| caller == endpoint);
            if !ran {
                continue;
            }
            let _ = writeln!(lines, "{:>6} x {}", report.calls, report.statement);
            let located = report.number.map(|number| suspicions.of_statement(number));
            for located in located.into_iter().flatten() {
                if located.owner.name.as_deref() != Some(endpoint) {
                    continue;
                }
                if let Some(location) = &located.location {
                    let _ = writeln!(lines, "         at {location}");
                }
                for suspicion in &located.suspicions {
                    let (kind, advice) = (suspicion.label(), suspicion.advice());
                    let _ = writeln!(lines, "         {kind}: {advice}");
                }
            }
        }
        lines
    }

    /// The sum of the series with these values for endpoint and status, or for the endpoint alone.
    fn sum<const N: usize>(&self, sample: &str, values: [&str; N]) -> Option<u64> {
        LABELS.iter().find_map(|names| {
            let labels: Vec<_> = names.iter().copied().zip(values).collect();
            let sum = self.vitals.value(sample, &labels)?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of what one test has done"
            )]
            Some(sum as u64)
        })
    }
}

/// Lists the requests by method, endpoint and status.
impl fmt::Debug for TestMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut requests = f.debug_map();
        let registry = self.vitals.registry();
        let name = "http_requests_total";
        let mut add = |[method, endpoint, status]: [&str; 3], counter: &Counter| {
            let count = counter.value();
            if count > 0 {
                requests.entry(&format_args!("{method} {endpoint} {status}"), &count);
            }
        };
        if let Some(family) = registry.family::<Counter, 3>(name) {
            family.for_each(&mut add);
        } else {
            let family: Option<Family<Counter, 5>> = registry.family(name);
            if let Some(family) = family {
                family.for_each(|[method, endpoint, status, ..], counter| {
                    add([method, endpoint, status], counter);
                });
            }
        }
        requests.finish()
    }
}
