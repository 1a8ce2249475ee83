//! The `actix-vitals` binary: settings in, server out.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use actix_vitals_service::server::{Server, ServerError};
use actix_vitals_service::settings::{LogFormat, LogSettings, Settings};
use actix_web::rt::System;

/// Its statistics are the allocator metrics.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let settings = match Settings::load(std::env::args_os()) {
        Ok(settings) => settings,
        Err(stop) => return stop.report(),
    };
    start_log(&settings.log);
    // Never dropped: that would wait for threads that block, such as one that waits for the migration lock.
    let system;
    let ended = match Server::check_resources(&settings) {
        Ok(()) => {
            give_memory_back();
            system = System::new();
            system.block_on(serve(settings))
        }
        Err(error) => Err(error),
    };
    let status = match ended {
        Ok(()) => 0,
        Err(error) => {
            // Nobody is left to be told that stderr is closed.
            drop(writeln!(io::stderr(), "actix-vitals: {error}."));
            i32::from(error.exit_code())
        }
    };
    leave(status)
}

/// Ends the process as it stands.
///
/// Not by way of the exit handlers: OpenSSL's takes away what threads use that still open connections or end queries, and
/// they would crash a process that has ended well.
fn leave(status: i32) -> ! {
    // Nobody is left to be told that stdout is closed.
    drop(io::stdout().flush());
    signal_hook::low_level::exit(status)
}

/// Has freed memory go back to the system within seconds, also while the process is idle: by itself, jemalloc looks after
/// that only when it is asked for more.
fn give_memory_back() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "freed memory goes back to the system only while memory is asked for");
    }
}

async fn serve(settings: Settings) -> Result<(), ServerError> {
    let vitals = settings
        .metrics
        .to_builder()
        .answer_memory(settings.limits.answer_memory)
        .jemalloc()
        .build()?;
    // A panic is one line of the log, not also the several that the standard library writes to stderr.
    std::panic::set_hook(Box::new(|_| {}));
    vitals.watch_panics();
    let Some(server) = Server::bind(settings, vitals).await? else {
        return Ok(());
    };
    server.announce(&mut io::stdout())?;
    server.run().await
}

/// Sends the log to stderr: stdout is for the addresses. A line that cannot be written is lost, and that is all: to tell of
/// that on stderr would be a panic.
fn start_log(settings: &LogSettings) {
    let log = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(settings.filter.to_env_filter())
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match settings.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
