//! What systemd is told: that the service is ready, that it is alive, and that it stops.
//!
//! Without `NOTIFY_SOCKET` in the environment nobody is told anything. What is told is a datagram each:
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>.

use std::time::{Duration, Instant};

use actix_web::rt::time::sleep;
use sd_notify::NotifyState;

use actix_vitals::Vitals;

/// How often it is asked whether the workers have started.
const START_PAUSE: Duration = Duration::from_millis(10);

/// How often a loop that is stuck is looked at.
const STUCK_PAUSE: Duration = Duration::from_millis(100);

/// What the service may take at its end beyond what it is set to.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// Reports that the service is ready once its workers turn. From then on, pings the watchdog, if there is one, as long as
/// this event loop and that of every worker turn.
///
/// A loop that has not turned for half of the watchdog's time is stuck. Pings cease then, and the watchdog ends the
/// service, unless the loop turns again in time. While a loop is stuck it is looked at every 100 ms: after the whole process
/// was stopped (SIGSTOP, a suspended machine) all loops look stuck for a moment, and the next ping is overdue.
pub async fn supervise(vitals: Vitals) {
    while vitals.longest_stall().is_none() {
        sleep(START_PAUSE).await;
    }
    tell(&[NotifyState::Ready]);
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
            tell(&[NotifyState::Watchdog]);
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

/// A loop that is stuck.
struct Stuck {
    /// When this was noticed.
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

/// Tells that the service stops, and that it may take so long to, whatever the unit says.
pub fn stopping(limit: Duration) {
    let limit = u32::try_from(limit.saturating_add(STOP_MARGIN).as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(limit)]);
}

/// A supervisor that does not listen is no reason not to serve.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(cause) = sd_notify::notify(state) {
        tracing::warn!(%cause, "systemd cannot be told of the service's state");
    }
}
