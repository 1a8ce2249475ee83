//! File descriptors: how many the service needs, and whether the system allows them. Each connection is one.

use std::{fs::File, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::settings::{LimitSettings, Settings};

/// The descriptors of a connection to SQLite: the file, its log, and a third one for a moment.
const OF_A_DATABASE_CONNECTION: u64 = 3;

/// All other descriptors: listeners, event loops, the log, files that a scrape reads.
const BESIDE_CONNECTIONS: u64 = 128;

/// The descriptors before the first client connects, without those of workers.
const TO_START: usize = 40;

/// The descriptors of a worker's event loop.
const OF_A_WORKER: usize = 4;

/// The number of descriptors that the start needs with this many workers.
pub(super) fn needed_to_start(workers: usize) -> usize {
    OF_A_WORKER * workers + TO_START
}

/// Checks that the process can open this many more descriptors at a time.
pub(super) fn probe(count: usize) -> io::Result<()> {
    let open = |_| File::open("/dev/null");
    (0..count)
        .map(open)
        .collect::<io::Result<Vec<_>>>()
        .map(drop)
}

/// The number of descriptors at the limits that the settings allow.
fn needed(settings: &Settings) -> u64 {
    let listeners = 1 + u64::from(settings.server.ops_listen.is_some());
    let LimitSettings {
        max_connections, ..
    } = settings.limits;
    let of_database = OF_A_DATABASE_CONNECTION * u64::from(settings.database.pool_size);
    listeners * max_connections as u64 + of_database + BESIDE_CONNECTIONS
}

/// Warns if the system allows fewer descriptors than the service needs.
pub(super) fn warn_of_shortage(settings: &Settings) {
    let needed = needed(settings);
    let allowed = raise(needed);
    if allowed < needed {
        tracing::warn!(
            "--max-connections ({}) needs {needed} file descriptors, and the system allows {allowed}: connections beyond \
             that wait until others end. Raise the limit (LimitNOFILE=, ulimit -n), or lower --max-connections.",
            settings.limits.max_connections
        );
    }
}

/// Raises the limit of the process to the number that the service needs, as far as the system allows.
pub(super) fn provide(settings: &Settings) {
    raise(needed(settings));
}

/// Raises the limit to `needed` if possible, and returns the resulting limit.
fn raise(needed: u64) -> u64 {
    let before = getrlimit(Resource::Nofile);
    let allowed = before.current.unwrap_or(u64::MAX);
    if allowed >= needed {
        return allowed;
    }
    let raised = before.maximum.map_or(needed, |most| most.min(needed));
    let after = Rlimit {
        current: Some(raised),
        ..before
    };
    match setrlimit(Resource::Nofile, after) {
        Ok(()) => raised,
        Err(_) => allowed,
    }
}
