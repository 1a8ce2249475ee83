//! File descriptors: every connection is one, and the system lets a process have so many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::settings::{LimitSettings, Settings};

/// What a connection to a database has open: SQLite's file and its log, and a third for a moment.
const OF_A_DATABASE_CONNECTION: u64 = 3;

/// What is neither a connection nor of the database: listeners, event loops, the log, what a scrape reads.
const BESIDE_CONNECTIONS: u64 = 128;

/// How many the service needs where all has come that its settings let in.
fn needed(settings: &Settings) -> u64 {
    let listeners = 1 + u64::from(settings.server.ops_listen.is_some());
    let LimitSettings {
        max_connections, ..
    } = settings.limits;
    let of_database = OF_A_DATABASE_CONNECTION * u64::from(settings.database.pool_size);
    listeners * max_connections as u64 + of_database + BESIDE_CONNECTIONS
}

/// Lets the process have as many as it needs, as far as the system allows; says so where that is too few.
pub(super) fn provide(settings: &Settings) {
    let needed = needed(settings);
    let before = getrlimit(Resource::Nofile);
    let allowed = before.current.unwrap_or(u64::MAX);
    if allowed >= needed {
        return;
    }
    let raised = before.maximum.map_or(needed, |most| most.min(needed));
    let after = Rlimit {
        current: Some(raised),
        ..before
    };
    let allowed = match setrlimit(Resource::Nofile, after) {
        Ok(()) => raised,
        Err(_) => allowed,
    };
    if allowed < needed {
        tracing::warn!(
            "--max-connections ({}) needs {needed} file descriptors, and the system allows {allowed}: connections beyond \
             that wait until others end. Raise the limit (LimitNOFILE=, ulimit -n), or lower --max-connections.",
            settings.limits.max_connections
        );
    }
}
