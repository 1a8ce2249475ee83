//! The times of ticks while the wall clock is set.

use vitals_recorder::{http::NotableRequests, ops_endpoints::OpsEndpoints};
use vitals_registry::Registry;

use super::*;
use crate::{
    dashboard::{
        DashboardSettings, OpsTraffic, SampledSources, identity,
        tick::{RouteTick, Tick},
    },
    in_progress::OpsInProgress,
};

const STARTED: Duration = Duration::from_millis(1_700_000_000_250);
const HOUR_LONG: Duration = Duration::from_secs(3600);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn sampling() -> Sampling {
    let registry = &Registry::builder(|| STARTED).build().expect("no families");
    let ops_traffic = OpsTraffic {
        endpoints: OpsEndpoints::new(["/metrics"]),
        in_progress: OpsInProgress::default(),
    };
    let identity = identity(registry, DashboardSettings::default(), Vec::new(), STARTED);
    let requests = NotableRequests::new(OpsEndpoints::new(["/metrics"]));
    Sampling::new(
        Sampler::new(registry, SampledSources::default(), ops_traffic),
        Arc::new(Hub::new(identity, STARTED.as_secs())),
        Details::new(requests),
        STARTED,
    )
}

/// The whole history: its clock, and the times of its ticks after the start.
fn history(sampling: &Sampling) -> (i64, Vec<u64>) {
    let history = sampling.hub.history(0, None, 1);
    let history: serde_json::Value = serde_json::from_slice(&history).expect("JSON");
    let ticks = history["ticks"].as_array().expect("ticks").iter();
    let times = ticks.map(|tick| tick["time"].as_u64().expect("a time") - STARTED.as_secs());
    (history["clock"].as_i64().unwrap_or(0), times.collect())
}

#[test]
fn a_wall_clock_that_is_set_moves_no_tick_and_empties_no_history() {
    let mut sampling = sampling();
    let second = |number| Duration::from_millis(750) + Duration::from_secs(number - 1);
    for (number, step, expected) in [
        (1, STARTED, 0),
        (2, STARTED + HOUR_LONG, 3600),
        (3, STARTED + CENTURY, 3_153_600_000),
        (4, Duration::ZERO, -1_700_000_004),
        (5, STARTED.saturating_sub(HOUR_LONG), -3600),
        (6, STARTED, 0),
    ] {
        let elapsed = second(number);
        sampling.tick(elapsed, step + if step.is_zero() { step } else { elapsed });
        assert_eq!(history(&sampling), (expected, (1..=number).collect()));
    }
    // A process that was stopped for a while.
    sampling.tick(second(36), STARTED + second(36));
    assert_eq!(history(&sampling), (0, vec![1, 2, 3, 4, 5, 6, 36]));
}

#[test]
fn ticks_are_longer_while_nothing_happens_and_no_page_is_open() {
    let mut sampling = sampling();
    let mut elapsed = Duration::from_millis(750);
    let mut next = |sampling: &mut Sampling| {
        sampling.tick(elapsed, STARTED + elapsed);
        let wait = sampling.until_next_tick(elapsed);
        elapsed += wait;
        wait.as_secs()
    };
    // The pages of the run before may come back.
    let at_start: Vec<u64> = (0..12).map(|_| next(&mut sampling)).collect();
    assert_eq!(at_start, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5, 5]);
    let (_, times) = history(&sampling);
    assert_eq!(times, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16]);
    // The history was read, so a page may be open.
    assert_eq!(next(&mut sampling), 1);
    sampling.tick(elapsed + HOUR_LONG, STARTED + elapsed + HOUR_LONG);
    assert_eq!(
        sampling.until_next_tick(elapsed + HOUR_LONG).as_secs(),
        5,
        "no page is open any more"
    );
    let _page = sampling.hub.subscribe();
    assert_eq!(
        sampling.until_next_tick(elapsed + HOUR_LONG).as_secs(),
        1,
        "a page was opened"
    );
}

#[test]
fn a_service_with_something_to_do_has_a_tick_each_second() {
    let quiet = Tick::default();
    assert!(quiet.is_quiet());
    let mut busy: [Tick; 5] = Default::default();
    busy[0].levels[0] = Some(1);
    busy[1].levels[4] = Some(1);
    busy[2].queries[4] = 1;
    busy[3].routes.push(RouteTick::default());
    busy[4].stalls.push((0, 1));
    for tick in busy {
        assert!(!tick.is_quiet(), "{tick:?}");
    }
}

#[test]
fn a_tick_that_is_late_moves_no_later_one() {
    let mut sampling = sampling();
    let mut elapsed = Duration::ZERO;
    for late in [0, 600, 0, 700, 0, 0, 800, 10, 990, 1700, 0, 650, 0] {
        elapsed += sampling.until_next_tick(elapsed) + Duration::from_millis(late);
        sampling.tick(elapsed, STARTED + elapsed);
        let (_, times) = history(&sampling);
        let time = Duration::from_secs(STARTED.as_secs() + times.last().expect("a tick"));
        let off = time.abs_diff(STARTED + elapsed);
        assert!(off <= Duration::from_millis(500), "{off:?}: {times:?}");
    }
}

#[test]
fn ticks_come_at_full_seconds_and_never_twice_in_one() {
    let timeline = Timeline::starting(STARTED);
    for (last, elapsed, expected) in [
        (0, 0, 750),
        // A page asks for its history just before a tick.
        (0, 700, 50),
        // The timer of the last tick was a little early.
        (1, 700, 1050),
        (1, 750, 1000),
        (1, 760, 990),
        (1, 1000, 750),
        (2, 1300, 1450),
    ] {
        let last = STARTED.as_secs() + last;
        let wait = timeline.until_next_second(last, Duration::from_millis(elapsed));
        assert_eq!(wait, Duration::from_millis(expected), "{elapsed}");
    }
}
