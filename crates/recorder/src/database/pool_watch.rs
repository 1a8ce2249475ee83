//! The log lines about pools that run out of connections, and about connections that are not returned.
//!
//! The watchdog looks at all pools twenty times a second, while a connection is held or waited for. It needs nothing from the
//! callers that wait, nor from those that hold the connections.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    holders::{HeldConnection, PoolHolders, PoolReport},
    levels::SharedPools,
    locks,
};
use crate::{
    clock, code_location,
    watchdog::{self, Sight},
};

/// How long a caller may wait before the log names the holders.
///
/// A pool that is large enough serves its callers within milliseconds, and the timeouts of pools are seconds. So half a
/// second is no normal wait, and it leaves time for the line before callers give up.
pub const WAIT_THRESHOLD: Duration = Duration::from_millis(500);

/// The default of how long a connection may be held before the log names the code that took it.
///
/// Requests are over, or given up, within a minute. Jobs may take longer, and are reported once.
pub const LEAK_THRESHOLD: Duration = Duration::from_secs(60);

/// Lets the watchdog look at these pools until they are dropped.
pub(super) fn start(pools: Weak<SharedPools>) {
    watchdog::watch(move || (pools.upgrade()).map_or(Sight::Over, |pools| look(&pools)));
}

fn look(pools: &SharedPools) -> Sight {
    let now = clock::now();
    let watched = pools.watched();
    let is_quiet = watched.iter().all(|(_, holders)| holders.is_quiet());
    locks::look(pools, &watched, now);
    for (pool, holders) in watched {
        if let Some(reason) = holders.line_reason(WAIT_THRESHOLD, now)
            && let Some(pool) = pool.upgrade()
        {
            let report = holders.report(Arc::clone(holders.pool()), pool.level());
            if reason.applies_to(&report) {
                report_holders(&report, holders.begin_line(now));
            }
        }
        if let Some(threshold) = pools.leak_threshold
            && pool.strong_count() > 0
        {
            report_leaks(&holders, threshold);
        }
    }
    if is_quiet { Sight::Quiet } else { Sight::Busy }
}

fn report_holders(report: &PoolReport, rejected: u64) {
    let longest = report.waiters.first();
    tracing::warn!(
        pool = &*report.name,
        waiting = report.waiting,
        longest_wait_seconds = longest.map(|waiter| waiter.waited.as_secs_f64()),
        rejected,
        "callers wait for a connection: {}",
        report.summary()
    );
}

fn report_leaks(holders: &PoolHolders, threshold: Duration) {
    for leak in holders.new_leaks(threshold) {
        let Some(line) = holders.leak_lines.line() else {
            continue;
        };
        let HeldConnection {
            owner,
            held,
            activity,
            taken_at,
            ..
        } = leak;
        let trace_id = owner.trace_id.map(|id| format!("{id:032x}"));
        let left_out = line.left_out;
        tracing::warn!(
            pool = &**holders.pool(),
            holder = owner.kind.label(),
            method = owner.method,
            endpoint = owner.name.as_deref(),
            trace_id,
            held_seconds = held.as_secs_f64(),
            activity = activity.label(),
            taken_at = taken_at.map(code_location::text_of),
            left_out,
            "a connection is held for longer than the leak threshold"
        );
    }
}
