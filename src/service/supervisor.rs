//! What systemd is told: that the service is ready, that it is alive, and that it stops.
//!
//! Without `NOTIFY_SOCKET` in the environment nobody is told anything. What is told is a datagram each:
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>.

use std::time::Duration;

use actix_web::rt::time::{interval, sleep};
use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

use crate::vitals::Vitals;

/// How often it is asked whether the workers have started.
const START_PAUSE: Duration = Duration::from_millis(10);

/// What the service may take at its end beyond what it is set to.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// Tells that the service is ready once its workers turn, and from then on, where a watchdog wants to hear it, that it is
/// alive: as long as the event loop that this runs on and that of every worker turn.
///
/// A loop that has not turned for half of the watchdog's time is stuck. Nothing is told then, and the watchdog ends the
/// service, unless the loop turns again in time.
pub async fn supervise(vitals: Vitals) {
    while vitals.longest_stall().is_none() {
        sleep(START_PAUSE).await;
    }
    tell(&[NotifyState::Ready]);
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut pings = interval(period / 4);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_alive = true;
    loop {
        pings.tick().await;
        let stall = vitals.longest_stall();
        let is_alive = stall.is_some_and(|stall| stall < period / 2);
        if is_alive {
            tell(&[NotifyState::Watchdog]);
        } else if let (true, Some(stall)) = (was_alive, stall) {
            tracing::error!(
                ?stall,
                "an event loop does not turn, and the watchdog is not told that all is well"
            );
        }
        was_alive = is_alive;
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
