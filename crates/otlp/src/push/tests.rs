//! Pushes to a receiver of the test: what is sent, what is sent again, and how a push ends.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod receiver;
mod traces;

use std::io::{self, Read as _, Write};
use std::sync::OnceLock;
use std::time::SystemTime;

use flate2::read::GzDecoder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, crypto::ring};
use vitals_registry::{Collector, FamilyDescription, FamilyRows};

use super::*;
use receiver::{Answer, BOUND, OK, Receiver};

const ORDERS: &str = "orders_total";

/// So long that only the first push, and those that a test asks for, are made.
const NEVER: Duration = Duration::from_secs(3600);

fn clock() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
}

/// A service with one counter, and its push.
struct Service {
    orders: Family<Counter, 0>,
    registry: Registry,
    families: PushFamilies,
    push: OtlpPush,
}

impl Service {
    fn start(settings: &OtlpSettings) -> Self {
        Self::try_start(settings, |_| ()).unwrap()
    }

    fn try_start(
        settings: &OtlpSettings,
        prepare: impl FnOnce(&Registry),
    ) -> Result<Self, OtlpError> {
        let mut builder = Registry::builder(clock);
        let orders = builder.counter(Descriptor::new(ORDERS, "Orders.", []));
        let families = PushFamilies::declare(&mut builder);
        let registry = builder.build().unwrap();
        prepare(&registry);
        let push = OtlpPush::start(settings, &registry, &families, clock, None, None)?;
        Ok(Self {
            orders,
            registry,
            families,
            push,
        })
    }

    /// The number of pushes that ended so.
    fn pushes(&self, outcome: Outcome) -> u64 {
        self.families
            .pushes
            .series(["metrics", outcome.as_str()])
            .value()
    }

    /// Waits until so many pushes have ended so.
    fn wait_for(&self, outcome: Outcome, count: u64) {
        let end = Instant::now() + BOUND;
        while self.pushes(outcome) < count {
            assert!(
                Instant::now() < end,
                "{outcome:?}: {}",
                self.pushes(outcome)
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Settings for a receiver, with retries that do not take long.
fn settings_for(url: &str) -> OtlpSettings {
    let mut settings = OtlpSettings::new(url).unwrap().interval(NEVER);
    settings.first_backoff = Duration::from_millis(10);
    settings
}

#[test]
fn every_outcome_is_counted_from_zero_on() {
    let mut builder = Registry::builder(clock);
    PushFamilies::declare(&mut builder);
    let text = builder
        .build()
        .unwrap()
        .encode(vitals_registry::Format::Text);
    let text = String::from_utf8(text).unwrap();
    for signal in ["metrics", "traces"] {
        for outcome in ["success", "partial", "rejected", "failed"] {
            let line =
                format!("vitals_push_total{{signal=\"{signal}\",outcome=\"{outcome}\"}} 0\n");
            assert!(text.contains(&line), "{text}");
        }
    }
}

#[test]
fn a_push_is_made_at_once_and_then_at_each_interval() {
    let receiver = Receiver::start(&[OK]);
    let interval = Duration::from_millis(500);
    let begun = Instant::now();
    let service = Service::start(&settings_for(&receiver.url()).interval(interval));
    service.orders.get().add(7);
    let requests = receiver.wait_for(4);
    assert_eq!(requests[3].counter(ORDERS), Some(7));
    let passed = requests[3].at - begun;
    assert!(passed >= interval * 3, "{passed:?}");
    service.wait_for(Outcome::Success, 3);
    let own = receiver.wait_for(6)[5]
        .counter("vitals_push_total")
        .unwrap();
    assert!(own >= 4, "the push counts itself: {own}");
    assert_eq!(service.pushes(Outcome::Failed), 0);
}

#[test]
fn a_request_has_the_headers_of_the_protocol_and_those_that_were_set() {
    let receiver = Receiver::start(&[OK]);
    let url = format!("http://ada:hunter2@{}/base?key=1", receiver.authority);
    let settings = settings_for(&url).header("X-Tenant", "a b").unwrap();
    let _service = Service::start(&settings);
    let request = &receiver.wait_for(1)[0];
    assert_eq!(request.line, "POST /base/v1/metrics?key=1 HTTP/1.1");
    for (name, value) in [
        ("content-type", "application/x-protobuf"),
        ("authorization", "Basic YWRhOmh1bnRlcjI="),
        ("x-tenant", "a b"),
        ("host", &receiver.authority),
        (
            "user-agent",
            concat!("actix-vitals/", env!("CARGO_PKG_VERSION")),
        ),
    ] {
        assert_eq!(
            request.headers.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    assert_eq!(request.headers.get("content-encoding"), None);
    let attributes = &request.message().resource_metrics[0]
        .resource
        .clone()
        .unwrap()
        .attributes;
    let keys: Vec<_> = attributes
        .iter()
        .map(|attribute| attribute.key.as_str())
        .collect();
    assert_eq!(keys, ["service.instance.id", "service.name"]);
}

#[test]
fn a_compressed_request_decompresses_to_the_message() {
    let receiver = Receiver::start(&[OK]);
    let service = Service::start(&settings_for(&receiver.url()).gzip(true));
    service.wait_for(Outcome::Success, 1);
    service.orders.get().add(3);
    assert!(service.push.finish(BOUND));
    let mut request = receiver.wait_for(2)[1].clone();
    assert_eq!(request.headers["content-encoding"], "gzip");
    let mut message = Vec::new();
    GzDecoder::new(&request.body[..])
        .read_to_end(&mut message)
        .unwrap();
    assert!(message.len() > request.body.len());
    request.body = message;
    assert_eq!(request.counter(ORDERS), Some(3));
}

#[test]
fn a_request_is_sent_again_where_the_receiver_may_take_it_later() {
    for answer in [
        Answer::Status(429, ""),
        Answer::Status(502, ""),
        Answer::Status(503, ""),
        Answer::Status(504, ""),
        Answer::Hangup,
    ] {
        let receiver = Receiver::start(&[answer.clone(), answer.clone(), OK]);
        let service = Service::start(&settings_for(&receiver.url()));
        service.wait_for(Outcome::Success, 1);
        let requests = receiver.requests();
        assert_eq!(requests.len(), 3, "{answer:?}");
        assert!(
            requests
                .iter()
                .all(|request| request.body == requests[0].body)
        );
        assert_eq!(
            service.pushes(Outcome::Failed),
            0,
            "a retry is no push: {answer:?}"
        );
    }
}

#[test]
fn a_request_that_the_receiver_rejects_is_sent_once() {
    for status in [301, 307, 400, 401, 403, 404, 408, 413, 500, 501] {
        // A redirect to the same receiver, which would record a second request.
        let answer = Answer::Status(status, "location: /v1/metrics\r\n");
        let receiver = Receiver::start(&[answer]);
        let service = Service::start(&settings_for(&receiver.url()));
        service.wait_for(Outcome::Rejected, 1);
        assert_eq!(receiver.requests().len(), 1, "{status}");
        assert!(!service.push.finish(BOUND), "{status}");
        assert_eq!(
            receiver.requests().len(),
            2,
            "the last push, once: {status}"
        );
    }
}

#[test]
fn a_receiver_is_asked_again_when_it_says_so() {
    let busy = Answer::Status(503, "retry-after: 1\r\n");
    let receiver = Receiver::start(&[busy, OK]);
    let service = Service::start(&settings_for(&receiver.url()));
    service.wait_for(Outcome::Success, 1);
    let requests = receiver.requests();
    let passed = requests[1].at - requests[0].at;
    assert!(passed >= Duration::from_secs(1), "{passed:?}");
}

#[test]
fn a_receiver_that_asks_for_a_long_wait_is_left_alone() {
    let busy = Answer::Status(429, "retry-after: 3600\r\n");
    let receiver = Receiver::start(&[busy, OK]);
    let interval = Duration::from_millis(100);
    let service = Service::start(&settings_for(&receiver.url()).interval(interval));
    service.wait_for(Outcome::Failed, 1);
    thread::sleep(interval * 5);
    assert_eq!(receiver.requests().len(), 1, "no push before its time");
    assert!(
        service.push.finish(BOUND),
        "the last push is made all the same"
    );
    assert_eq!(receiver.requests().len(), 2);
}

#[test]
fn a_receiver_that_asks_for_no_wait_is_not_flooded() {
    let receiver = Receiver::start(&[Answer::Status(503, "retry-after: 0\r\n")]);
    let service = Service::start(&settings_for(&receiver.url()).interval(Duration::from_secs(1)));
    service.wait_for(Outcome::Failed, 1);
    // Waits of at least 5, 10, 20 ms and so on are over a second after eight.
    let asked = receiver.requests().len();
    assert!(asked <= 12, "{asked} requests in a second");
}

#[test]
fn a_push_fails_when_the_next_one_is_due_and_that_one_succeeds() {
    let mut answers = vec![Answer::Hangup; 4];
    answers.push(OK);
    let receiver = Receiver::start(&answers);
    let mut settings = settings_for(&receiver.url()).interval(Duration::from_millis(100));
    // Waits of at least 30, 60 and 120 ms: the third ends behind the next push.
    settings.first_backoff = Duration::from_millis(60);
    let service = Service::start(&settings);
    service.orders.get().add(2);
    service.wait_for(Outcome::Success, 1);
    assert!(service.pushes(Outcome::Failed) >= 1);
    assert_eq!(
        receiver.wait_for(5)[4].counter(ORDERS),
        Some(2),
        "nothing is lost"
    );
}

#[test]
fn a_receiver_that_does_not_answer_costs_the_timeout() {
    let receiver = Receiver::start(&[Answer::Silence, OK]);
    // The second answer comes within it.
    let timeout = Duration::from_secs(1);
    let begun = Instant::now();
    let service = Service::start(&settings_for(&receiver.url()).timeout(timeout));
    service.wait_for(Outcome::Success, 1);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2, "it is asked again");
    let passed = requests[1].at - begun;
    assert!(passed >= timeout, "{passed:?}");
}

#[test]
fn the_last_push_contains_what_was_counted_last() {
    let receiver = Receiver::start(&[OK]);
    let service = Service::start(&settings_for(&receiver.url()));
    service.wait_for(Outcome::Success, 1);
    service.orders.get().add(5);
    assert!(service.push.finish(BOUND));
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].counter(ORDERS), Some(5));
    assert!(service.push.finish(BOUND), "again: nothing more is pushed");
    assert_eq!(receiver.requests().len(), 2);
}

#[test]
fn the_last_push_is_retried_within_its_time() {
    let receiver = Receiver::start(&[OK, Answer::Status(503, ""), OK]);
    let service = Service::start(&settings_for(&receiver.url()));
    service.wait_for(Outcome::Success, 1);
    assert!(service.push.finish(BOUND));
    assert_eq!(receiver.requests().len(), 3);
}

#[test]
fn times_beyond_what_the_clock_counts_are_no_failure() {
    let receiver = Receiver::start(&[OK]);
    let settings = settings_for(&receiver.url()).interval(Duration::MAX);
    let service = Service::start(&settings);
    service.wait_for(Outcome::Success, 1);
    assert!(service.push.finish(Duration::MAX));
    assert_eq!(receiver.requests().len(), 2);

    // The last push of one that is dropped has the time of an attempt.
    let service = Service::start(&settings.timeout(Duration::MAX));
    receiver.wait_for(3);
    drop(service);
    receiver.wait_for(4);
}

#[test]
fn the_last_push_is_bounded_in_time() {
    for (answers, why) in [
        ([OK, Answer::Silence], "the receiver hangs in the last push"),
        (
            [Answer::Silence, OK],
            "the receiver hangs in the push before",
        ),
        ([OK, Answer::Status(503, "")], "the receiver stays busy"),
    ] {
        let receiver = Receiver::start(&answers);
        let service = Service::start(&settings_for(&receiver.url()));
        receiver.wait_for(1);
        let begun = Instant::now();
        assert!(!service.push.finish(Duration::from_millis(300)), "{why}");
        // Far less than the timeout of a request, which is 10 s.
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{why}: {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn a_retry_gives_way_to_the_last_push() {
    let receiver = Receiver::start(&[Answer::Status(503, "retry-after: 600\r\n"), OK]);
    let service = Service::start(&settings_for(&receiver.url()));
    receiver.wait_for(1);
    service.orders.get().add(9);
    assert!(service.push.finish(BOUND));
    let requests = receiver.requests();
    assert_eq!((requests.len(), requests[1].counter(ORDERS)), (2, Some(9)));
}

#[test]
fn a_push_that_is_dropped_pushes_once_more() {
    let receiver = Receiver::start(&[OK]);
    let service = Service::start(&settings_for(&receiver.url()));
    service.wait_for(Outcome::Success, 1);
    service.orders.get().add(4);
    drop(service);
    assert_eq!(receiver.wait_for(2)[1].counter(ORDERS), Some(4));
}

/// A collector that does not return.
struct Hanging;

impl Collector for Hanging {
    fn name(&self) -> &'static str {
        "hanging"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        Vec::new()
    }

    fn collect(
        &self,
        _: &mut Vec<FamilyRows>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        thread::sleep(BOUND);
        Ok(())
    }
}

#[test]
fn a_hanging_collector_costs_its_own_rows_only() {
    let receiver = Receiver::start(&[OK]);
    let settings = settings_for(&receiver.url()).interval(Duration::from_millis(400));
    let service = Service::try_start(&settings, |registry| {
        registry.register(Hanging).unwrap();
        let stock = prometheus::IntGauge::new("stock", "Stock.").unwrap();
        registry
            .register_prometheus("returning", Box::new(stock))
            .unwrap();
    });
    let service = service.unwrap();
    service.orders.get().add(1);
    let request = &receiver.wait_for(2)[1];
    assert_eq!(request.counter(ORDERS), Some(1));
    let message = format!("{:?}", request.message());
    assert!(
        message.contains("\"stock\""),
        "the collector behind it is read"
    );
    let text = String::from_utf8(service.registry.encode_errors()).unwrap();
    assert!(
        !text.contains("vitals_collector_errors_total{collector=\"hanging\"} 0\n"),
        "{text}"
    );
}

trait EncodeErrors {
    fn encode_errors(&self) -> Vec<u8>;
}

impl EncodeErrors for Registry {
    /// The count of errors by collector, without reading the collectors.
    fn encode_errors(&self) -> Vec<u8> {
        let names = vitals_registry::NameFilter::new(["vitals_collector_errors_total"]);
        let mut scrape = self.scrape_collected(vitals_registry::Format::Text, &names, &[]);
        let mut out = Vec::new();
        while scrape.next_chunk(&mut out) {}
        out
    }
}

/// The log of all tests of this process.
#[derive(Clone, Default)]
struct SharedLog(Arc<Mutex<Vec<u8>>>);

impl SharedLog {
    /// The log from the first call on, at its finest level, with the lines of the HTTP client.
    fn start() -> Self {
        static LOG: OnceLock<SharedLog> = OnceLock::new();
        let log = LOG.get_or_init(|| {
            let log = SharedLog::default();
            let writer = log.clone();
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .init();
            log
        });
        log.clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// The number of warnings about this receiver that contain this text.
    fn warnings(&self, receiver: &Receiver, part: &str) -> usize {
        let text = self.text();
        let lines = text.lines().filter(|line| line.contains(" WARN "));
        lines
            .filter(|line| line.contains(&receiver.authority) && line.contains(part))
            .count()
    }
}

impl Write for SharedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn points_that_the_receiver_rejects_are_counted_and_logged_once() {
    let log = SharedLog::start();
    let receiver = Receiver::start(&[Answer::Partial(3)]);
    // A push has this time on a busy machine, too.
    let interval = Duration::from_millis(500);
    let service = Service::start(&settings_for(&receiver.url()).interval(interval));
    service.wait_for(Outcome::Partial, 3);
    assert_eq!(service.pushes(Outcome::Failed), 0);
    assert_eq!(log.warnings(&receiver, "rejected=3"), 1, "{}", log.text());
    // An answer of 0 rejected points is a hint, and no rejection.
    let receiver = Receiver::start(&[Answer::Partial(0)]);
    let service = Service::start(&settings_for(&receiver.url()));
    service.wait_for(Outcome::Success, 1);
}

#[test]
fn a_failure_is_logged_once_until_it_changes_or_ends() {
    let log = SharedLog::start();
    let forbidden = Answer::Status(403, "");
    let answers = [
        forbidden.clone(),
        forbidden.clone(),
        Answer::Status(404, ""),
        OK,
        forbidden,
    ];
    let receiver = Receiver::start(&answers);
    // A push has this time on a busy machine, too.
    let interval = Duration::from_millis(500);
    let service = Service::start(&settings_for(&receiver.url()).interval(interval));
    service.wait_for(Outcome::Rejected, 5);
    assert_eq!(log.warnings(&receiver, "status 403"), 2, "{}", log.text());
    assert_eq!(log.warnings(&receiver, "status 404"), 1);
    assert!(log.text().contains("metrics are pushed again"));
}

#[test]
fn no_secret_reaches_the_log_or_the_metrics() {
    let log = SharedLog::start();
    for answers in [
        &[OK][..],
        &[Answer::Status(401, "www-authenticate: x\r\n")],
        &[Answer::Status(302, "location: http://127.0.0.1:1/\r\n")],
        &[Answer::Partial(1)],
        &[Answer::Hangup, Answer::Silence],
    ] {
        let receiver = Receiver::start(answers);
        let url = format!("http://ada:hunter2@{}", receiver.authority);
        let settings = settings_for(&url).header("x-key", "hunter2").unwrap();
        let settings = settings.timeout(Duration::from_millis(200));
        let service = Service::start(&settings);
        receiver.wait_for(1);
        service.push.finish(Duration::from_millis(500));
        let exposed = service.registry.encode(vitals_registry::Format::Text);
        assert!(!String::from_utf8(exposed).unwrap().contains("hunter2"));
        assert!(log.text().contains(&receiver.authority));
    }
    let text = log.text();
    for secret in ["hunter2", "YWRhOmh1bnRlcjI"] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

/// The certificates of one test, in a directory that it removes.
struct Certificates {
    directory: std::path::PathBuf,
    server: Arc<ServerConfig>,
}

impl Certificates {
    /// An authority, a server that asks for a client certificate, and a client. The files are `ca.pem`, `client.pem` and
    /// `client.key`.
    fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("vitals-otlp-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let signed = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            (params.signed_by(&key, &authority).unwrap(), key)
        };
        let (server, server_key) = signed("127.0.0.1");
        let (client, client_key) = signed("client");
        for (file, text) in [
            ("ca.pem", authority.as_ref().pem()),
            ("client.pem", client.pem()),
            ("client.key", client_key.serialize_pem()),
            ("empty.pem", String::new()),
        ] {
            std::fs::write(directory.join(file), text).unwrap();
        }
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.as_ref().der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![server.der().clone()], key)
            .unwrap();
        Self {
            directory,
            server: Arc::new(server),
        }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn a_push_over_tls_checks_the_receiver_and_presents_its_certificate() {
    let certificates = Certificates::new("tls");
    let receiver = Receiver::start_with(&[OK], Some(Arc::clone(&certificates.server)));
    let settings = settings_for(&format!("https://{}", receiver.authority))
        .certificate(certificates.file("ca.pem"))
        .client_certificate(
            certificates.file("client.pem"),
            certificates.file("client.key"),
        );
    let service = Service::start(&settings);
    service.wait_for(Outcome::Success, 1);
    assert_eq!(receiver.requests().len(), 1);
}

#[test]
fn a_receiver_that_is_not_trusted_gets_nothing() {
    let log = SharedLog::start();
    let certificates = Certificates::new("untrusted");
    let other = Certificates::new("other");
    let receiver = Receiver::start_with(&[OK], Some(Arc::clone(&certificates.server)));
    let settings = settings_for(&format!("https://{}", receiver.authority))
        .certificate(other.file("ca.pem"))
        .client_certificate(
            certificates.file("client.pem"),
            certificates.file("client.key"),
        );
    let service = Service::start(&settings);
    service.wait_for(Outcome::Failed, 1);
    assert_eq!(receiver.requests().len(), 0);
    assert_eq!(
        log.warnings(&receiver, "the TLS handshake failed"),
        1,
        "{}",
        log.text()
    );
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    let certificates = Certificates::new("bad");
    let settings = || settings_for("https://127.0.0.1:1");
    let file = |name: &str| certificates.file(name);
    for (settings, sentence) in [
        (
            settings().certificate(file("missing.pem")),
            "missing.pem cannot be read: entity not found",
        ),
        (
            settings().certificate(file("empty.pem")),
            "empty.pem contains no certificate in PEM",
        ),
        (
            settings().certificate(file("client.key")),
            "client.key contains no certificate in PEM",
        ),
        (
            settings()
                .certificate(file("ca.pem"))
                .client_certificate(file("client.pem"), file("ca.pem")),
            "ca.pem contains no private key in PEM",
        ),
    ] {
        let error = Service::try_start(&settings, |_| ())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("of the OTLP push: the file "), "{error}");
        assert!(error.ends_with(sentence), "{error}");
    }
    let mut half = settings().certificate(file("ca.pem"));
    half = half.client_certificate(file("client.pem"), file("client.key"));
    half.metrics.as_mut().unwrap().client_key = None;
    let error = Service::try_start(&half, |_| ()).err().unwrap().to_string();
    assert!(error.contains("go together"), "{error}");
}
