//! The `actix-vitals` binary: it reads the settings, sets up the log and the metrics, and runs the server.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use actix_vitals::{BuildError, ops::LogControl};
use actix_vitals_service::{
    heap_sampling,
    server::{Server, ServerError},
    settings::{LogFormat, LogSettings, Settings},
};
use actix_web::rt::System;
use tracing_subscriber::{
    EnvFilter, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

/// The allocator metrics are its statistics.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let settings = match Settings::load(std::env::args_os()) {
        Ok(settings) => settings,
        Err(stop) => return stop.report(),
    };
    let log = start_log(&settings.log);
    if settings.metrics.profiling {
        heap_sampling::prepare();
    }
    // Outlives the match: dropping it would wait for blocked threads, such as one that waits for the migration lock.
    let system;
    let ended = match Server::check_resources(&settings) {
        Ok(()) => {
            return_freed_memory();
            system = System::new();
            system.block_on(serve(settings, log))
        }
        Err(error) => Err(error),
    };
    let status = match ended {
        Ok(()) => 0,
        Err(error) => {
            // A closed stderr cannot be reported anywhere.
            drop(writeln!(io::stderr(), "actix-vitals: {error}."));
            i32::from(error.exit_code())
        }
    };
    exit(status)
}

/// Ends the process without running its exit handlers.
///
/// That of OpenSSL frees what threads use that still open connections or end queries. They would then crash a process that
/// has ended in order.
fn exit(status: i32) -> ! {
    // A closed stdout cannot be reported anywhere.
    drop(io::stdout().flush());
    signal_hook::low_level::exit(status)
}

/// Starts jemalloc's thread that returns freed memory to the system within seconds. Without it, an idle process keeps its
/// freed memory until it allocates again.
fn return_freed_memory() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "jemalloc has no background thread: an idle process keeps its freed memory");
    }
}

async fn serve(settings: Settings, log: LogControl) -> Result<(), ServerError> {
    let mut builder = settings.to_builder(log);
    if let Some(push) = settings.push.to_otlp().map_err(BuildError::from)? {
        builder = builder.otlp(push);
    }
    let vitals = builder.build()?;
    // `watch_panics` logs each panic. The standard library's own hook would print it to stderr as well.
    std::panic::set_hook(Box::new(|_| {}));
    vitals.watch_panics();
    let Some(server) = Server::bind(settings, vitals).await? else {
        return Ok(());
    };
    server.announce(&mut io::stdout())?;
    server.run().await
}

/// Sends the log to stderr; stdout has the addresses. A line that cannot be written is lost: to report it on stderr would
/// panic. Returns what replaces the filter.
fn start_log(settings: &LogSettings) -> LogControl {
    let (filter, handle) = reload::Layer::new(settings.filter.to_env_filter());
    let lines = tracing_subscriber::fmt::layer()
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    let log = tracing_subscriber::registry().with(filter);
    match settings.format {
        LogFormat::Text => log.with(lines).init(),
        LogFormat::Json => log.with(lines.json()).init(),
    }
    LogControl::new(settings.filter.to_string(), move |filter| {
        let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    })
}
