//! The scrape: negotiated, filtered, shared, and bounded in number and in time. No collector makes it fail.

mod heads;
mod paths;

use std::{
    error::Error,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use actix_vitals::{
    Vitals,
    ops::{ENDPOINTS, LogControl, OpsChoice, OpsEndpoint, OpsSettings, ProbeError},
    registry::{Collector, FamilyDescription, FamilyRows, Format},
};
use actix_web::{
    App, HttpServer,
    body::MessageBody,
    dev::{Service, ServiceResponse},
    test::{TestRequest, call_service, init_service, read_body, read_body_json},
    web,
};
use diesel::{
    SqliteConnection,
    r2d2::{self, ConnectionManager},
};
use futures_util::future::join_all;

/// A collector that takes its time, or fails.
struct Unusual {
    name: &'static str,
    gatherings: Arc<AtomicUsize>,
    behave: Box<dyn Fn() -> Outcome + Send + Sync>,
}

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

impl Collector for Unusual {
    fn name(&self) -> &'static str {
        self.name
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        Vec::new()
    }

    fn collect(&self, _: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.gatherings.fetch_add(1, Ordering::SeqCst);
        (self.behave)()
    }
}

fn vitals() -> Vitals {
    vitals_with(OpsSettings::new())
}

fn vitals_with(settings: OpsSettings) -> Vitals {
    let vitals = Vitals::builder().ops(settings).build();
    vitals.expect("these settings build")
}

/// Registers a collector, and returns the count of its gatherings.
fn register(
    vitals: &Vitals,
    name: &'static str,
    behave: impl Fn() -> Outcome + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let gatherings = Arc::new(AtomicUsize::new(0));
    let collector = Unusual {
        name,
        gatherings: Arc::clone(&gatherings),
        behave: Box::new(behave),
    };
    vitals
        .registry()
        .register(collector)
        .expect("a name of its own");
    gatherings
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "what a collector does may fail, and with others it does"
)]
fn a_while() -> Result<(), Box<dyn Error + Send + Sync>> {
    thread::sleep(Duration::from_millis(300));
    Ok(())
}

async fn app(
    vitals: &Vitals,
) -> impl Service<
    actix_http::Request,
    Response = ServiceResponse<impl MessageBody>,
    Error = actix_web::Error,
> {
    vitals.check_health(async || Err(ProbeError("the database has gone fishing".to_owned())));
    init_service(App::new().configure(vitals.ops())).await
}

fn scrape(accept: &str) -> actix_http::Request {
    TestRequest::with_uri("/metrics")
        .insert_header(("accept", accept))
        .to_request()
}

fn header<'a, B>(response: &'a ServiceResponse<B>, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().expect("ASCII"))
}

async fn text(vitals: &Vitals, uri: &str) -> String {
    let app = app(vitals).await;
    let response = call_service(&app, TestRequest::with_uri(uri).to_request()).await;
    assert_eq!(response.status(), 200);
    String::from_utf8(read_body(response).await.to_vec()).expect("UTF-8")
}

#[actix_web::test]
async fn the_client_chooses_format_and_encoding() {
    let vitals = vitals();
    let app = app(&vitals).await;
    for (accept, format) in [
        ("*/*", Format::Text),
        (
            "application/openmetrics-text;version=1.0.0",
            Format::OpenMetrics,
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            Format::Protobuf,
        ),
        ("image/png", Format::Text),
    ] {
        let response = call_service(&app, scrape(accept)).await;
        assert_eq!(response.status(), 200, "{accept}");
        assert_eq!(
            header(&response, "content-type"),
            format.content_type(),
            "{accept}"
        );
        assert_eq!(header(&response, "vary"), "Accept, Accept-Encoding");
    }
    for (accepted, encoding) in [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("br", ""),
        ("gzip;q=0", ""),
    ] {
        let mut request = scrape("*/*");
        let value = accepted.parse().expect("a header value");
        request
            .head_mut()
            .headers_mut()
            .insert("accept-encoding".parse().expect("a name"), value);
        let response = call_service(&app, request).await;
        assert_eq!(
            header(&response, "content-encoding"),
            encoding,
            "{accepted}"
        );
        let body = read_body(response).await;
        let text = match encoding {
            "gzip" => {
                let mut text = Vec::new();
                flate2::read::GzDecoder::new(&*body)
                    .read_to_end(&mut text)
                    .expect("gzip");
                text
            }
            "zstd" => zstd::decode_all(&*body).expect("zstd"),
            _ => body.to_vec(),
        };
        assert!(text.starts_with(b"# HELP "), "{accepted}");
    }
}

#[actix_web::test]
async fn name_parameters_keep_only_the_families_of_those_names() {
    let vitals = vitals();
    let text = text(
        &vitals,
        "/metrics?name[]=inprogress_requests&name%5B%5D=vitals_series",
    )
    .await;
    let families: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    assert_eq!(
        families,
        ["inprogress_requests gauge", "vitals_series gauge"],
        "{text}"
    );
}

#[actix_web::test]
async fn concurrent_scrapes_of_one_kind_share_a_gathering() {
    let vitals = vitals();
    let gatherings = register(&vitals, "slow", a_while);
    let app = app(&vitals).await;
    let responses = join_all((0..4).map(|_| call_service(&app, scrape("*/*")))).await;
    assert!(responses.iter().all(|response| response.status() == 200));
    assert_eq!(gatherings.load(Ordering::SeqCst), 1);
    call_service(&app, scrape("*/*")).await;
    assert_eq!(
        gatherings.load(Ordering::SeqCst),
        2,
        "the next scrape gathers anew"
    );
}

#[actix_web::test]
async fn a_scrape_that_arrives_during_a_gathering_gets_the_next() {
    let vitals = vitals();
    let gatherings = register(&vitals, "slow", a_while);
    let app = app(&vitals).await;
    let later = async {
        while gatherings.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        join_all((0..3).map(|_| call_service(&app, scrape("*/*")))).await
    };
    futures_util::future::join(call_service(&app, scrape("*/*")), later).await;
    assert_eq!(
        gatherings.load(Ordering::SeqCst),
        2,
        "and the three share it"
    );
}

/// Scrapes of every format, encoding and filter in turn.
fn forms() -> impl Iterator<Item = actix_http::Request> {
    const ACCEPT: [&str; 3] = [
        "text/plain",
        "application/openmetrics-text",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ];
    const ENCODINGS: [&str; 3] = ["identity", "gzip", "zstd"];
    (0..).map(|client: usize| {
        let uri = match client % 4 {
            3 => format!("/metrics?name[]=vitals_series&name[]=of_client_{client}"),
            _ => "/metrics".to_owned(),
        };
        TestRequest::with_uri(&uri)
            .insert_header(("accept", ACCEPT[client % 3]))
            .insert_header(("accept-encoding", ENCODINGS[client / 3 % 3]))
            .to_request()
    })
}

#[actix_web::test]
async fn clients_of_different_forms_that_coincide_are_all_answered_by_one_gathering() {
    for clients in [10, 60, 64] {
        let vitals = vitals();
        let gatherings = register(&vitals, "slow", a_while);
        let app = app(&vitals).await;
        let scrapes = forms().take(clients).map(|it| call_service(&app, it));
        let statuses: Vec<_> = (join_all(scrapes).await.iter())
            .map(|response| response.status().as_u16())
            .collect();
        assert_eq!(statuses, vec![200; clients]);
        assert_eq!(gatherings.load(Ordering::SeqCst), 1);
    }
}

#[actix_web::test]
async fn clients_that_come_one_after_the_other_share_the_next_gathering() {
    let vitals = vitals();
    let gatherings = register(&vitals, "slow", a_while);
    let app = app(&vitals).await;
    let late = async {
        while gatherings.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        join_all(forms().take(50).map(|it| call_service(&app, it))).await
    };
    let (first, late) = futures_util::future::join(call_service(&app, scrape("*/*")), late).await;
    assert_eq!(first.status(), 200);
    assert!(late.iter().all(|response| response.status() == 200));
    assert_eq!(gatherings.load(Ordering::SeqCst), 2);
}

#[actix_web::test]
async fn only_the_scrapes_past_64_waiting_ones_are_told_to_come_back() {
    let vitals = vitals();
    register(&vitals, "slow", a_while);
    let app = app(&vitals).await;
    let responses = join_all(forms().take(100).map(|it| call_service(&app, it))).await;
    let (served, refused): (Vec<_>, Vec<_>) = responses
        .iter()
        .partition(|response| response.status() == 200);
    assert_eq!((served.len(), refused.len()), (64, 36));
    for response in refused {
        assert_eq!(response.status(), 503);
        assert_eq!(header(response, "retry-after"), "1");
        assert_eq!(header(response, "content-type"), "application/problem+json");
    }
    assert_eq!(
        call_service(&app, scrape("*/*")).await.status(),
        200,
        "places are given back"
    );
}

#[actix_web::test]
async fn one_address_may_have_64_scrapes_waiting_and_another_one_is_still_answered() {
    let vitals = vitals();
    register(&vitals, "slow", a_while);
    let app = app(&vitals).await;
    let of = |address: [u8; 4]| {
        move |mut request: actix_http::Request| {
            request.head_mut().peer_addr = Some((address, 4711).into());
            request
        }
    };
    let many = forms().take(70).map(of([192, 0, 2, 1]));
    let requests = many.chain(forms().take(10).map(of([192, 0, 2, 2])));
    let responses = join_all(requests.map(|it| call_service(&app, it))).await;
    let statuses: Vec<_> = (responses.iter())
        .map(|response| response.status().as_u16())
        .collect();
    assert_eq!(statuses[..64], [200; 64]);
    assert_eq!(statuses[64..70], [503; 6]);
    assert_eq!(statuses[70..], [200; 10]);
}

#[actix_web::test]
async fn a_scrape_waits_as_long_as_prometheus_and_no_longer() {
    let vitals = vitals_with(OpsSettings::new().scrape_timeout(Duration::from_millis(100)));
    let is_open = Arc::new(AtomicBool::new(false));
    hang_until(&vitals, &is_open);
    let app = app(&vitals).await;
    let request = TestRequest::with_uri("/metrics")
        .insert_header(("x-prometheus-scrape-timeout-seconds", "0.02"))
        .to_request();
    let began = Instant::now();
    let response = call_service(&app, request).await;
    assert_eq!(response.status(), 503);
    assert_eq!(header(&response, "retry-after"), "1");
    let least = Duration::from_millis(18);
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    is_open.store(true, Ordering::SeqCst);
}

/// Registers a collector that returns once `is_open`.
fn hang_until(vitals: &Vitals, is_open: &Arc<AtomicBool>) -> Arc<AtomicUsize> {
    let is_open = Arc::clone(is_open);
    register(vitals, "hanging", move || {
        while !is_open.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    })
}

#[actix_web::test]
async fn a_collector_that_hangs_costs_its_own_rows_and_one_thread() {
    // A busy machine must read the other collectors in an eighth of half of it, and answer in the rest.
    let vitals = vitals_with(OpsSettings::new().scrape_timeout(Duration::from_secs(8)));
    let is_open = Arc::new(AtomicBool::new(false));
    let gatherings = hang_until(&vitals, &is_open);
    let behind = register(&vitals, "behind", || Ok(()));
    let app = app(&vitals).await;
    let errors = async || {
        let response = call_service(&app, scrape("*/*")).await;
        assert_eq!(response.status(), 200);
        let text = String::from_utf8(read_body(response).await.to_vec()).expect("UTF-8");
        assert!(text.contains("\nprocess_start_time_seconds "), "{text}");
        let line = "vitals_collector_errors_total{collector=\"hanging\"} ";
        let count = text.lines().find_map(|it| it.strip_prefix(line));
        count.expect("the collector is counted").to_owned()
    };
    for scrape in 1..=6 {
        assert_eq!(errors().await, scrape.to_string());
        assert_eq!(behind.load(Ordering::SeqCst), scrape);
    }
    assert_eq!(
        gatherings.load(Ordering::SeqCst),
        1,
        "it was not read again"
    );

    is_open.store(true, Ordering::SeqCst);
    let mut scrapes = 0;
    while gatherings.load(Ordering::SeqCst) < 2 {
        assert!(scrapes < 500, "it has returned, and is read again");
        tokio::time::sleep(Duration::from_millis(10)).await;
        errors().await;
        scrapes += 1;
    }
}

#[actix_web::test]
async fn a_worker_serves_others_while_scrapes_wait() {
    let vitals = vitals();
    let is_open = Arc::new(AtomicBool::new(false));
    let gatherings = hang_until(&vitals, &is_open);
    let ops = vitals.ops();
    let server = HttpServer::new(move || App::new().configure(ops.clone()))
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .expect("a port");
    let url = format!("http://{}", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    let client = reqwest::Client::new();
    let scrape = |accept: &'static str| {
        let request = client.get(format!("{url}/metrics"));
        tokio::spawn(request.header("accept", accept).send())
    };
    let scrapes = ["text/plain", "application/openmetrics-text"].map(scrape);
    while gatherings.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let alive = client.get(format!("{url}/livez")).send().await;
    assert_eq!(alive.expect("an answer").status(), 200);
    assert!(!is_open.load(Ordering::SeqCst));
    is_open.store(true, Ordering::SeqCst);
    for scrape in scrapes {
        let response = scrape.await.expect("it ends").expect("an answer");
        assert_eq!(response.status(), 200);
    }
    handle.stop(false).await;
}

#[actix_web::test]
async fn a_collector_that_fails_or_panics_costs_its_own_rows_and_is_counted() {
    let vitals = vitals();
    register(&vitals, "failing", || Err("no luck".into()));
    register(&vitals, "panicking", || {
        panic!("the collector panics as it should")
    });
    register(&vitals, "working", || Ok(()));
    let text = text(&vitals, "/metrics").await;
    for (collector, errors) in [("failing", 1), ("panicking", 1), ("working", 0)] {
        let line = format!("vitals_collector_errors_total{{collector=\"{collector}\"}} {errors}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
}

#[actix_web::test]
async fn the_users_own_metrics_appear_in_every_format() {
    let vitals = vitals();
    let orders = prometheus::IntCounter::new("orders_total", "Orders taken.").expect("a counter");
    orders.inc_by(3);
    vitals
        .registry()
        .prometheus()
        .register(Box::new(orders))
        .expect("a name of its own");
    let registry = vitals.registry();
    let text = |format| String::from_utf8_lossy(&registry.encode(format)).into_owned();
    assert!(text(Format::Text).contains("# TYPE orders_total counter\norders_total 3\n"));
    assert!(text(Format::OpenMetrics).contains("# TYPE orders counter\n"));
    assert!(text(Format::OpenMetrics).contains("\norders_total 3"));
    assert!(text(Format::Protobuf).contains("orders_total"));
}

#[actix_web::test]
async fn health_tells_of_the_database_and_liveness_does_not_ask_it() {
    let vitals = vitals();
    let app = app(&vitals).await;
    for (path, status, body) in [
        ("/livez", 200, r#"{"status":"ok"}"#),
        (
            "/readyz",
            503,
            r#"{"status":"error","database":"unreachable","detail":"the database has gone fishing"}"#,
        ),
        (
            "/health",
            503,
            r#"{"status":"error","database":"unreachable","detail":"the database has gone fishing"}"#,
        ),
    ] {
        let response = call_service(&app, TestRequest::with_uri(path).to_request()).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(read_body(response).await, body, "{path}");
    }
    let response = call_service(&app, TestRequest::post().uri("/metrics").to_request()).await;
    assert_eq!(response.status(), 405);
    assert_eq!(header(&response, "allow"), "GET, HEAD, OPTIONS");
}

/// Returns the application's answer at `path`.
async fn health(vitals: &Vitals, path: &str) -> (u16, serde_json::Value) {
    let app = init_service(App::new().configure(vitals.ops())).await;
    let response = call_service(&app, TestRequest::with_uri(path).to_request()).await;
    let status = response.status().as_u16();
    let body = read_body(response).await;
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[actix_web::test]
async fn without_a_pool_nothing_is_said_of_a_database() {
    let vitals = vitals();
    for path in ["/readyz", "/health"] {
        let ok = (200, serde_json::json!({"status": "ok"}));
        assert_eq!(health(&vitals, path).await, ok, "{path}");
    }
}

#[actix_web::test]
async fn a_probe_that_hangs_is_named_as_what_it_is() {
    let vitals = vitals();
    vitals.check_health(async || std::future::pending().await);
    let detail = "the health probe did not answer within 1.5 s";
    let hangs = serde_json::json!({"status": "error", "detail": detail});
    assert_eq!(health(&vitals, "/readyz").await, (503, hangs));
}

#[actix_web::test]
async fn a_probe_that_panics_is_named_as_what_it_is() {
    for panics_at_once in [true, false] {
        let vitals = vitals();
        vitals.check_health(move || {
            assert!(!panics_at_once, "the probe panics as it should");
            async {
                tokio::task::yield_now().await;
                panic!("the probe panics as it should")
            }
        });
        let detail = "the health probe panicked";
        let panicked = serde_json::json!({"status": "error", "detail": detail});
        for path in ["/readyz", "/health"] {
            assert_eq!(health(&vitals, path).await, (503, panicked.clone()));
        }
    }
}

#[actix_web::test]
async fn a_timeout_without_an_end_is_a_long_one() {
    let vitals = vitals_with(OpsSettings::new().scrape_timeout(Duration::MAX));
    register(&vitals, "working", || Ok(()));
    let text = text(&vitals, "/metrics").await;
    let line = "vitals_collector_errors_total{collector=\"working\"} 0\n";
    assert!(text.contains(line), "{text}");
}

#[actix_web::test]
async fn the_ops_endpoints_may_be_mounted_anywhere_and_twice() {
    let settings = OpsSettings::everything().with_log(log()).with_profiles();
    let vitals = vitals_with(settings);
    let app = App::new()
        .configure(vitals.ops())
        .service(web::scope("/internal").configure(vitals.ops()))
        .service(web::scope("/tenants/{tenant}/{part}").configure(vitals.ops()))
        .wrap(vitals.http());
    let app = init_service(app).await;
    for scope in ["", "/internal", "/tenants/7/page"] {
        for endpoint in ENDPOINTS {
            let response = call_service(&app, request_of(scope, endpoint)).await;
            assert!(is_served(&response), "{scope} {endpoint:?}");
        }
    }
}

#[actix_web::test]
async fn a_parameter_that_an_endpoint_does_not_have_is_rejected_and_named() {
    let settings = OpsSettings::everything().with_log(log()).with_profiles();
    let vitals = vitals_with(settings);
    let app = App::new().configure(vitals.ops()).wrap(vitals.http());
    let app = init_service(app).await;
    for endpoint in ENDPOINTS {
        let path = path_of(endpoint);
        let joint = if path.contains('?') { '&' } else { '?' };
        let request = TestRequest::with_uri(&format!("{path}{joint}shop=hunter2"));
        let request = request.method(endpoint.methods().list()[0].clone());
        let answer = call_service(&app, request.to_request()).await;
        let Some(accepted) = endpoint.parameters() else {
            assert!(is_served(&answer), "{endpoint:?}");
            continue;
        };
        assert_eq!(answer.status(), 422, "{endpoint:?}");
        let problem: serde_json::Value = read_body_json(answer).await;
        let [error] = problem["errors"].as_array().unwrap().as_slice() else {
            panic!("{problem}");
        };
        assert_eq!(error["field"], "shop");
        let message = error["message"].as_str().unwrap();
        for name in accepted {
            assert!(message.contains(name), "{endpoint:?}: {message}");
        }
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
    let errors = r#"http_requests_total{method="GET",endpoint="/ops/pool",http_status="422"} 1"#;
    let scrape = call_service(&app, scrape("*/*")).await;
    let text = String::from_utf8(read_body(scrape).await.to_vec()).unwrap();
    assert!(text.contains(errors), "{text}");
}

/// Whether an endpoint gave the answer: it succeeded, or says that it knows no such id, or why it cannot. A path that does
/// not exist is answered without a problem document.
fn is_served<B>(answer: &ServiceResponse<B>) -> bool {
    let content_type = answer.headers().get("content-type");
    let is_problem = content_type.is_some_and(|value| value == "application/problem+json");
    answer.status().is_success() || (is_problem && [404, 503].contains(&answer.status().as_u16()))
}

fn log() -> LogControl {
    LogControl::new("info", |_| Ok(()))
}

/// A path of an endpoint, with the parameters that it needs.
fn path_of(endpoint: &OpsEndpoint) -> String {
    let path = endpoint.path().replace("profile/{part}", "profile/page.js");
    let path = path.replace("{part}", "app.js");
    let path = path.replace("{id}", "0000000000000000");
    let path = path.replace("/ops/log", "/ops/log?filter=info&seconds=1");
    path.replace("/profile/cpu", "/profile/cpu?seconds=1")
}

/// A request of an endpoint that is mounted in a scope.
fn request_of(scope: &str, endpoint: &OpsEndpoint) -> actix_http::Request {
    let path = path_of(endpoint);
    TestRequest::with_uri(&format!("{scope}{path}"))
        .method(endpoint.methods().list()[0].clone())
        .to_request()
}

#[actix_web::test]
async fn a_pool_that_is_busy_is_ready_and_one_whose_database_is_gone_is_not() {
    let vitals = vitals();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("busy.db");
    let builder = r2d2::Pool::builder().max_size(2);
    let manager = ConnectionManager::<SqliteConnection>::new(path.to_str().expect("UTF-8"));
    let pool = (vitals.instrument(builder).build(manager)).expect("it opens");
    let held = [
        pool.get().expect("a connection"),
        pool.get().expect("a connection"),
    ];
    let busy_since = Instant::now();
    let reachable = serde_json::json!({"status": "ok", "database": "reachable"});
    while busy_since.elapsed() < Duration::from_secs(3) {
        assert_eq!(health(&vitals, "/readyz").await, (200, reachable.clone()));
        actix_web::rt::time::sleep(Duration::from_millis(100)).await;
    }
    directory.close().expect("the file goes away");
    let detail = "the database did not answer";
    let gone = serde_json::json!({"status": "error", "database": "unreachable", "detail": detail});
    assert_eq!(health(&vitals, "/readyz").await, (503, gone));
    drop(held);
}

#[actix_web::test]
async fn only_the_scrape_and_the_health_checks_exist_unless_a_setting_adds_more() {
    use OpsChoice::{Always, Log, Profiles, Reset, Statements};

    let alone = OpsChoice::ALL.map(|choice| (OpsSettings::new().with(choice), vec![choice]));
    let others = [
        (OpsSettings::new(), vec![]),
        (OpsSettings::default(), vec![]),
        (OpsSettings::everything(), OpsChoice::ALL.to_vec()),
        (OpsSettings::new().with_reset(), vec![Statements, Reset]),
        (OpsSettings::new().with_log(log()), vec![Log]),
        (OpsSettings::new().with_profiles(), vec![Profiles]),
    ];
    for (settings, mut chosen) in alone.into_iter().chain(others) {
        if chosen == [Reset] {
            chosen.push(Statements);
        }
        let vitals = vitals_with(settings.clone());
        let app = init_service(App::new().configure(vitals.ops())).await;
        for endpoint in ENDPOINTS {
            let answer = call_service(&app, request_of("", endpoint)).await;
            let is_chosen = endpoint.choice() == Always || chosen.contains(&endpoint.choice());
            assert_eq!(
                is_served(&answer),
                is_chosen,
                "{endpoint:?} with {settings:?}"
            );
            // The path of the reset is one that the statements have, with other methods.
            let is_covered = endpoint.choice() == Reset && chosen.contains(&Statements);
            let absent = if is_covered { 405 } else { 404 };
            if !is_chosen {
                assert_eq!(answer.status(), absent, "{endpoint:?} with {settings:?}");
            }
        }
    }
    let always = ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.choice() == Always);
    let paths: Vec<_> = always.map(OpsEndpoint::path).collect();
    assert_eq!(paths, ["/metrics", "/livez", "/readyz", "/health"]);
}
