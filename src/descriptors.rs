//! File descriptors: every connection is one, and the system lets a process have so many.

use std::fs::File;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::settings::{LimitSettings, Settings};

/// What a connection to a database has open: SQLite's file and its log, and a third for a moment.
const OF_A_DATABASE_CONNECTION: u64 = 3;

/// What is neither a connection nor of the database: listeners, event loops, the log, what a scrape reads.
const BESIDE_CONNECTIONS: u64 = 128;

/// What the service has open before its first client connects, beside its workers.
const TO_START: usize = 40;

/// What the event loop of a worker has open.
const OF_A_WORKER: usize = 4;

/// How many the service opens at its start with so many workers.
pub(super) fn needed_to_start(workers: usize) -> usize {
    OF_A_WORKER * workers + TO_START
}

/// Tries whether the process may have this many more at a time.
pub(super) fn probe(count: usize) -> io::Result<()> {
    let open = |_| File::open("/dev/null");
    (0..count)
        .map(open)
        .collect::<io::Result<Vec<_>>>()
        .map(drop)
}

/// How many the service needs where all has come that its settings let in.
fn needed(settings: &Settings) -> u64 {
    let listeners = 1 + u64::from(settings.server.ops_listen.is_some());
    let LimitSettings {
        max_connections, ..
    } = settings.limits;
    let of_database = OF_A_DATABASE_CONNECTION * u64::from(settings.database.pool_size);
    listeners * max_connections as u64 + of_database + BESIDE_CONNECTIONS
}

/// Warns where the system allows fewer than the service needs.
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

/// Lets the process have as many as it needs, as far as the system allows.
pub(super) fn provide(settings: &Settings) {
    raise(needed(settings));
}

/// Raises the limit to what is needed, and returns what it is then.
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
