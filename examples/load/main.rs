//! The load driver: mixed CRUD requests from many clients against a running server, and a ledger that must agree.
//!
//! `cargo run --example load -- --help` lists the options. It exits with 0 if the server's counters agree with the requests that
//! were sent, with 1 if they do not, and with 2 if it could not start. `workload` has the requests of the clients, `ledger` the
//! comparison, `latency` the quantiles.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool"
)]

mod latency;
mod ledger;
mod workload;

// The reader of the text exposition is the one that the integration tests use.
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/support/exposition.rs"]
mod exposition;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Client;

use latency::Latencies;
use ledger::{Ledger, Meter};
use workload::{Mix, Progress, Workload};

/// Drive mixed CRUD load against a running Actix Vitals server, and check its counters to the last request.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Options {
    /// The URL of the server
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    url: String,
    /// The URL of the listener with /metrics, if it is another one
    #[arg(long)]
    metrics_url: Option<String>,
    /// The number of concurrent clients
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    clients: u16,
    /// How long to send, such as 20s or 5m
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// The proportions of creates, reads, updates and deletes
    #[arg(long, default_value = "2:5:2:1")]
    mix: Mix,
    /// The seed of an earlier run, to repeat its choices. By default a random one, which is printed
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("load: {reason}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether the ledgers agree.
///
/// # Errors
///
/// If the run could not start.
async fn run(options: &Options) -> Result<bool, String> {
    let url = options.url.trim_end_matches('/').to_owned();
    let client = Client::builder()
        // Shorter than the idle timeout of any server, so that no request is sent on a connection that is being closed.
        .pool_idle_timeout(std::time::Duration::from_secs(2))
        .no_proxy()
        .timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(usize::from(options.clients))
        .build()
        .map_err(|error| error.to_string())?;
    let mut meter = Meter::start(client.clone(), &url, options.metrics_url.as_deref()).await?;

    let seed = options.seed.unwrap_or_else(rand::random);
    println!(
        "{} clients for {} against {url}, mix {}, seed {seed}",
        options.clients,
        humantime::format_duration(options.duration),
        options.mix,
    );
    let workload = Workload::new(client, url, options.mix, seed);
    let start = Instant::now();
    let tallies = drive(&workload, options).await;
    let elapsed = start.elapsed();

    let mut ledger = Ledger::default();
    let mut latencies = Latencies::default();
    for tally in tallies {
        ledger.merge(tally.ledger);
        latencies.merge(tally.latencies);
    }
    report(&ledger, &latencies, elapsed);
    let findings = meter.settle(&ledger).await;
    if findings.is_empty() {
        println!(
            "the server's counters agree with the ledger: {} requests, every one counted once",
            ledger.total()
        );
    } else {
        println!("the server's counters and the ledger differ:\n{findings}");
    }
    Ok(findings.is_empty() && ledger.broken.is_empty())
}

/// Runs all clients until the time is over or Ctrl-C asks for the end; each finishes the request it has begun.
async fn drive(workload: &Workload, options: &Options) -> Vec<workload::Tally> {
    let clients: Vec<_> = (0..u64::from(options.clients))
        .map(|index| tokio::spawn(workload.client(index)))
        .collect();
    let bar = progress_bar(options.duration);
    let end = Instant::now() + options.duration;
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    while Instant::now() < end {
        let tick = tokio::time::sleep(Duration::from_millis(100).min(end - Instant::now()));
        tokio::select! {
            () = tick => show(&bar, workload.progress(), options.duration, end),
            _ = &mut interrupted => break,
        }
    }
    workload.stop();
    bar.finish_and_clear();

    let mut tallies = Vec::with_capacity(clients.len());
    for client in clients {
        match client.await {
            Ok(tally) => tallies.push(tally),
            Err(error) => eprintln!("load: a client failed: {error}"),
        }
    }
    tallies
}

fn progress_bar(duration: Duration) -> ProgressBar {
    let tenths = u64::try_from(duration.as_millis() / 100).unwrap_or(u64::MAX);
    let bar = ProgressBar::new(tenths);
    if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} [{wide_bar}] {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn show(bar: &ProgressBar, progress: Progress, duration: Duration, end: Instant) {
    let passed = duration.saturating_sub(end.saturating_duration_since(Instant::now()));
    bar.set_position(u64::try_from(passed.as_millis() / 100).unwrap_or(u64::MAX));
    bar.set_message(format!(
        "{} requests, {:.0}/s, {} without an answer",
        progress.requests,
        progress.requests as f64 / passed.as_secs_f64().max(0.001),
        progress.broken,
    ));
}

fn report(ledger: &Ledger, latencies: &Latencies, elapsed: Duration) {
    println!(
        "{} requests in {:.1} s: {:.0} a second",
        ledger.total(),
        elapsed.as_secs_f64(),
        ledger.total() as f64 / elapsed.as_secs_f64(),
    );
    println!("{latencies}");
    println!("{ledger}");
    for (reason, count) in &ledger.broken {
        println!("{count} without a whole answer: {reason}");
    }
}
