//! Metrics of the ops endpoints: actix-web-prom counts and times their requests under the namespace `ops`.
//!
//! They are in the same registry as all other families, for operators who want to know who scrapes and how long it takes.
//! The live page's stream is not counted: its requests last for minutes.

use std::error::Error;

use actix_vitals::Vitals;
use actix_web::web::ServiceConfig;
use actix_web_prom::{PrometheusMetrics, PrometheusMetricsBuilder};

/// Upper bounds of the latency buckets, in seconds: a scrape takes from a fraction of a millisecond to its timeout.
const BUCKETS: [f64; 10] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0,
];

/// Records `ops_http_requests_total` and `ops_http_requests_duration_seconds`. Cheap to clone; a clone records in the same
/// families.
#[derive(Clone)]
pub(super) struct OpsWatch(PrometheusMetrics);

impl OpsWatch {
    /// Registers the two families.
    ///
    /// # Errors
    ///
    /// Fails if the registry has a family of one of these names, as after an earlier call with the same `vitals`.
    pub(super) fn register(vitals: &Vitals) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let metrics = PrometheusMetricsBuilder::new("ops")
            .registry(vitals.registry().prometheus().clone())
            .buckets(&BUCKETS)
            .build()?;
        Ok(Self(metrics))
    }

    /// The ops endpoints, each with the middleware that records its requests.
    pub(super) fn endpoints(
        &self,
        vitals: &Vitals,
    ) -> impl Fn(&mut ServiceConfig) + Clone + Send + Sync + 'static + use<> {
        let metrics = self.0.clone();
        vitals.ops_with(move |route| route.wrap(metrics.clone()))
    }
}

impl std::fmt::Debug for OpsWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OpsWatch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use actix_vitals::{ops::OpsSettings, registry::Format};
    use actix_web::{
        App,
        body::{MessageBody, to_bytes},
        dev::{Service, ServiceResponse},
        http::Method,
        test::{TestRequest, call_service, init_service, read_body},
        web,
    };

    use super::*;

    fn vitals() -> Vitals {
        let vitals = Vitals::builder().ops(OpsSettings::everything()).build();
        vitals.unwrap()
    }

    async fn app(
        vitals: &Vitals,
    ) -> impl Service<
        actix_http::Request,
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
    > {
        let watch = OpsWatch::register(vitals).unwrap();
        let scope = web::scope("/internal").configure(watch.endpoints(vitals));
        let app = App::new().configure(watch.endpoints(vitals)).service(scope);
        init_service(app.wrap(vitals.http())).await
    }

    /// The samples of the two families, each with its value.
    fn samples(vitals: &Vitals) -> Vec<String> {
        let text = String::from_utf8(vitals.registry().encode(Format::Text)).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("ops_"));
        lines.map(str::to_owned).collect()
    }

    #[actix_web::test]
    async fn each_request_is_counted_and_timed_under_its_mounted_pattern() {
        let vitals = vitals();
        let app = app(&vitals).await;
        for path in ["/metrics", "/internal/metrics", "/dashboard/app.js"] {
            for _ in 0..3 {
                let request = TestRequest::with_uri(path).to_request();
                read_body(call_service(&app, request).await).await;
            }
        }
        let samples = samples(&vitals);
        for endpoint in ["/metrics", "/internal/metrics", "/dashboard/{part}"] {
            let labels = format!(r#"{{endpoint="{endpoint}",method="GET",status="200"}} 3"#);
            for name in [
                "ops_http_requests_total",
                "ops_http_requests_duration_seconds_count",
            ] {
                let line = format!("{name}{labels}");
                assert!(samples.contains(&line), "{line}: {samples:#?}");
            }
        }
        let bounds = samples.iter().filter(|sample| {
            sample.starts_with("ops_http_requests_duration_seconds_bucket{endpoint=\"/metrics\"")
        });
        assert_eq!(bounds.count(), BUCKETS.len() + 1);
    }

    #[actix_web::test]
    async fn the_stream_of_the_live_page_is_not_counted() {
        let vitals = vitals();
        let app = app(&vitals).await;
        let request = TestRequest::with_uri("/dashboard/stream").to_request();
        let response = call_service(&app, request).await;
        assert_eq!(response.status(), 200);
        vitals.drain();
        assert!(to_bytes(response.into_body()).await.is_ok());
        assert_eq!(samples(&vitals), Vec::<String>::new());
    }

    #[actix_web::test]
    async fn methods_that_a_client_invents_make_no_series() {
        let vitals = vitals();
        let app = app(&vitals).await;
        for path in ["/livez", "/metrics", "/ops/statements/reset"] {
            for method in 0..100 {
                let method = Method::from_bytes(format!("M{method}").as_bytes()).unwrap();
                let request = TestRequest::with_uri(path).method(method).to_request();
                assert_eq!(call_service(&app, request).await.status(), 405);
            }
        }
        assert_eq!(samples(&vitals), Vec::<String>::new());
    }
}
