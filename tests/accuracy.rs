//! The error of the quantiles that scrapers compute from our histograms: recorded samples of known distributions are scraped
//! by every supported scraper, and its quantiles are compared with those of the samples.
//!
//! This test writes the table of `docs/ACCURACY.md` (`make accuracy`), and fails if the table is not what it measures.

use std::{fmt::Write as _, net::TcpListener, path::Path, sync::mpsc, thread, time::Duration};

use actix_vitals::{
    LATENCY_BUCKETS,
    registry::{Descriptor, Registry, Unit, negotiate_format},
};
use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, http::header::HeaderValue, web,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::support::keeper::free_port;
use crate::support::prometheus::{Prometheus, Setup, job};
use crate::support::scrapers::{self, Scraper};
use crate::support::wait;

/// The longest wait for a scrape or an answer.
const BOUND: Duration = Duration::from_secs(60);

const SAMPLES: usize = 200_000;
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// The bounds that a well-known demonstration of request metrics uses.
const COARSE_BUCKETS: [f64; 6] = [0.1, 0.3, 0.5, 1.0, 3.0, 5.0];

/// A name, how a sample is drawn, and the largest relative error that a native histogram may show.
type Distribution = (&'static str, fn(&mut StdRng) -> f64, f64);

const DISTRIBUTIONS: [Distribution; 4] = [
    // Most requests near 8 ms, p95 at 22 ms.
    (
        "log-normal",
        |random| 0.008 * (0.6 * normal(random)).exp(),
        0.01,
    ),
    // Nine of ten from a cache in 2 ms, one from a database in 60 ms.
    (
        "bimodal",
        |random| {
            let centre = if random.random_bool(0.9) { 0.002 } else { 0.06 };
            centre * (0.2 * normal(random)).exp()
        },
        0.01,
    ),
    // All the same: any estimate is as far off as the bucket is wide.
    ("constant", |_| 0.021, 0.022),
    // Pareto of shape 1.5 from 1 ms: some wait for seconds.
    (
        "heavy-tailed",
        |random| 0.001 * (1.0 - random.random::<f64>()).powf(-1.0 / 1.5),
        0.01,
    ),
];

/// A standard normal variate, by Box and Muller.
fn normal(random: &mut StdRng) -> f64 {
    let (radius, angle): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// The registry with all samples recorded, and each distribution's samples, sorted.
fn record() -> (Registry, Vec<Vec<f64>>) {
    let mut builder = Registry::builder(|| Duration::from_secs(1_700_000_000));
    let mut declare = |name, buckets: &[f64]| {
        let descriptor = Descriptor::new(name, "Samples of known distributions.", ["distribution"]);
        builder.histogram(descriptor.unit(Unit::Seconds), buckets)
    };
    let families = [
        declare("sampled_seconds", &LATENCY_BUCKETS),
        declare("coarsely_sampled_seconds", &COARSE_BUCKETS),
    ];
    let registry = builder.build().expect("valid families");
    let samples = DISTRIBUTIONS.iter().map(|(name, draw, _)| {
        let mut random = StdRng::seed_from_u64(42);
        let mut samples: Vec<f64> = (0..SAMPLES).map(|_| draw(&mut random)).collect();
        for family in &families {
            let series = family.series([name]);
            for sample in &samples {
                series.observe(*sample);
            }
        }
        samples.sort_by(f64::total_cmp);
        samples
    });
    let samples = samples.collect();
    (registry, samples)
}

/// Serves a registry's exposition on a free port until the handle stops it. Returns the address and the handle. Nothing else
/// is given that port meanwhile, so [`serve_at`] can serve there later.
pub(crate) fn serve(registry: Registry) -> (String, ServerHandle) {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).expect("a free port");
    let authority = listener.local_addr().expect("a bound address").to_string();
    (authority, serve_on(listener, registry))
}

/// As [`serve`], at this address.
pub(crate) fn serve_at(authority: &str, registry: Registry) -> ServerHandle {
    let listener = TcpListener::bind(authority).expect("the port is free again");
    serve_on(listener, registry)
}

fn serve_on(listener: TcpListener, registry: Registry) -> ServerHandle {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(web::Data::new(registry.clone()))
                    .route("/metrics", web::get().to(get_metrics))
            })
            .workers(1)
            .disable_signals()
            .listen(listener)
            .expect("a listener")
            .run();
            sender.send(server.handle()).expect("the test waits");
            server.await.expect("a clean stop");
        });
    });
    receiver.recv().expect("a started server")
}

/// The exposition in the format that is asked for.
async fn get_metrics(request: HttpRequest, registry: web::Data<Registry>) -> HttpResponse {
    let accepted = request.headers().get_all("accept");
    let accepted: Vec<&[u8]> = accepted.map(HeaderValue::as_bytes).collect();
    let format = negotiate_format(&accepted);
    HttpResponse::Ok()
        .content_type(format.content_type())
        .body(registry.encode(format))
}

/// The quantiles of each distribution.
type Estimates = Vec<[f64; QUANTILES.len()]>;

/// Each quantile of each distribution as a scraper computes it, for each of these metrics.
async fn ask(scraper: &Scraper, setup: &Setup<'_>, metrics: &[&str]) -> Vec<Estimates> {
    let prometheus = Prometheus::start_set_up(scraper, setup).await;
    wait::until("the first scrape", BOUND, || prometheus.target_is_up()).await;
    let mut answers = Vec::new();
    for metric in metrics {
        let mut by_distribution = Vec::new();
        for (distribution, ..) in DISTRIBUTIONS {
            let mut quantiles = [0.0; QUANTILES.len()];
            for (quantile, answer) in QUANTILES.iter().zip(&mut quantiles) {
                let query = format!(
                    "histogram_quantile({quantile}, {metric}{{distribution=\"{distribution}\"}})"
                );
                *answer = wait::until(&query, BOUND, async || {
                    match prometheus.query(&query).await?.as_slice() {
                        [one] => Ok(one.value),
                        other => Err(format!("{other:?}")),
                    }
                })
                .await;
            }
            by_distribution.push(quantiles);
        }
        answers.push(by_distribution);
    }
    answers
}

/// The sample of which the share `quantile` is no larger.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank within the sample"
)]
fn exact(sorted: &[f64], quantile: f64) -> f64 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quantiles_over_native_histograms_are_within_one_percent() {
    let scrapers = scrapers::all("quantiles_over_native_histograms_are_within_one_percent");
    let [oldest, newest, victoria] = &scrapers[..] else {
        return;
    };
    let (registry, samples) = record();
    let (authority, server) = serve(registry);
    let jobs = job("sampled", &[&authority]);
    let classic = Setup {
        jobs: &jobs,
        ..Setup::default()
    };
    let native = Setup {
        native: true,
        ..classic
    };
    // The newest Prometheus stores classic buckets as one native histogram with those bounds.
    let converted = Setup {
        global: ", convert_classic_histograms_to_nhcb: true",
        ..classic
    };
    let names = ["sampled_seconds", "coarsely_sampled_seconds"];
    let buckets = ["sampled_seconds_bucket", "coarsely_sampled_seconds_bucket"];
    let by_native = [
        ask(oldest, &native, &names[..1]).await.remove(0),
        ask(newest, &native, &names[..1]).await.remove(0),
    ];
    let by_classic = ask(oldest, &classic, &buckets).await;
    for (others, configuration) in [
        (
            ask(newest, &classic, &buckets).await,
            "the newest Prometheus",
        ),
        (ask(newest, &converted, &names).await, "custom buckets"),
        (ask(victoria, &classic, &buckets).await, "VictoriaMetrics"),
    ] {
        are_equal(&by_classic, &others, configuration);
    }
    server.stop(false).await;

    let mut table = String::from(
        "| distribution | quantile | exact | native, oldest | off by | native, newest | off by | classic | off by | coarse | off by |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (at, (name, _, bound)) in DISTRIBUTIONS.into_iter().enumerate() {
        for (column, quantile) in QUANTILES.into_iter().enumerate() {
            let exact = exact(&samples[at], quantile);
            let error = |estimate: f64| (estimate - exact).abs() / exact;
            write!(
                table,
                "| {name} | p{} | {:.3} ms |",
                quantile * 100.0,
                exact * 1000.0
            )
            .expect("a string");
            for answers in by_native.iter().chain(&by_classic) {
                let estimate = answers[at][column];
                write!(
                    table,
                    " {:.3} ms | {:.2} % |",
                    estimate * 1000.0,
                    error(estimate) * 100.0
                )
                .expect("a string");
            }
            table.push('\n');
            for native in &by_native {
                let error = error(native[at][column]);
                assert!(
                    error <= bound,
                    "{name}, p{}: {error:.4} of the exact value\n{table}",
                    quantile * 100.0
                );
            }
        }
    }
    println!("{table}");
    hold_document_to(&table);
}

/// Asserts that another configuration estimates the same.
fn are_equal(expected: &[Estimates], found: &[Estimates], configuration: &str) {
    let all = |estimates: &[Estimates]| estimates.concat().concat();
    for (expected, found) in all(expected).into_iter().zip(all(found)) {
        assert!(
            (found - expected).abs() <= expected * 1e-9,
            "{configuration}: {found}, not {expected}"
        );
    }
}

/// Compares the table in the document with the one measured, or writes it there where `UPDATE_DOCS` is set.
fn hold_document_to(table: &str) {
    const BEGIN: &str = "<!-- measured: begin -->\n";
    const END: &str = "<!-- measured: end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ACCURACY.md");
    let document = std::fs::read_to_string(&path).expect("the document");
    let (before, rest) = document.split_once(BEGIN).expect("a place for the table");
    let (_, after) = rest.split_once(END).expect("an end of that place");
    let current = format!("{before}{BEGIN}\n{table}\n{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, current).expect("the document can be written");
    } else {
        assert_eq!(
            document, current,
            "docs/ACCURACY.md is stale: run `make accuracy`"
        );
    }
}
