//! Notifications to systemd: the service is ready, alive, stopping.
//!
//! Without `NOTIFY_SOCKET` in the environment, nothing is sent. The protocol is
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>.

use std::time::{Duration, Instant};

use actix_vitals::Vitals;
use actix_web::rt::time::sleep;
use sd_notify::NotifyState;

/// The pause between two checks whether the workers have started.
const START_PAUSE: Duration = Duration::from_millis(10);

/// The pause between two checks of a stuck loop.
const STUCK_PAUSE: Duration = Duration::from_millis(100);

/// How much longer than its settings say the service may take to stop.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// Reports that the service is ready once its workers run. Then pings the watchdog, if there is one, as long as this event loop
/// and that of every worker turn.
///
/// A loop that has not turned for half of the watchdog's time is stuck. Pings then cease, and the watchdog ends the service
/// unless the loop turns again in time. A stuck loop is checked every 100 ms: after the whole process was stopped (SIGSTOP, a
/// suspended machine) all loops look stuck for a moment, and the next ping is overdue.
pub async fn supervise(vitals: Vitals) {
    while vitals.longest_stall().is_none() {
        sleep(START_PAUSE).await;
    }
    notify(&[NotifyState::Ready]);
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut stuck: Option<Stuck> = None;
    loop {
        let stall = vitals.longest_stall();
        if stall.is_some_and(|stall| stall < period / 2) {
            if stuck.take().is_some_and(|stuck| stuck.is_logged) {
                tracing::info!("every event loop turns again");
            }
            notify(&[NotifyState::Watchdog]);
            sleep(period / 4).await;
            continue;
        }
        let stuck = stuck.get_or_insert_with(Stuck::now);
        if !stuck.is_logged && stuck.since.elapsed() >= period / 8 {
            stuck.is_logged = true;
            tracing::error!(
                ?stall,
                "an event loop does not turn, and the watchdog gets no ping"
            );
        }
        sleep(STUCK_PAUSE).await;
    }
}

/// At least one loop is stuck.
struct Stuck {
    /// When it was noticed.
    since: Instant,
    is_logged: bool,
}

impl Stuck {
    fn now() -> Self {
        Self {
            since: Instant::now(),
            is_logged: false,
        }
    }
}

/// Reports that the service stops, and that it may take `limit`, whatever its unit says.
pub fn stopping(limit: Duration) {
    let limit = u32::try_from(limit.saturating_add(STOP_MARGIN).as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(limit)]);
}

/// Sends a notification. A failure is logged only: the service can run without systemd.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(cause) = sd_notify::notify(state) {
        tracing::warn!(%cause, "the notification to systemd failed");
    }
}
