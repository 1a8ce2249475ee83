use crate::http::{
    insight::timeline::{KeptEnding, KeptFacts},
    record::polls::Polls,
};

use super::*;

fn at(nanoseconds: u64) -> Moment {
    Moment::from_nanoseconds(nanoseconds)
}

fn request(kept: &KeptRequests, endpoint: &str, milliseconds: u64) -> KeptRequest {
    let ended = at(milliseconds * 1_000_000);
    let mut polls = Polls::new(at(0));
    polls.end(at(0), ended);
    let facts = KeptFacts {
        method: "GET",
        endpoint: endpoint.into(),
        scheme: "http",
        status: 200,
        ending: KeptEnding::Complete,
        trace: None,
        cause: None,
        sent_bytes: 0,
        loop_time: Duration::from_millis(milliseconds),
        started: at(0),
        ended,
    };
    KeptRequest::new(kept.new_id(), facts, &polls, None)
}

fn reasons(of: &[KeepReason]) -> KeepReasons {
    let mut reasons = KeepReasons::default();
    for reason in of {
        reasons.add(*reason, true);
    }
    reasons
}

fn rank(ended: u64, random: u64) -> Rank {
    Rank {
        ended: at(ended),
        random,
    }
}

fn new(limit: usize) -> KeptRequests {
    KeptRequests::new(limit, OpsEndpoints::new(["/metrics"]))
}

fn of_reason(kept: &KeptRequests, reason: KeepReason) -> Vec<Arc<KeptRequest>> {
    kept.list(&KeptFilter {
        reason: Some(reason),
        ..KeptFilter::default()
    })
}

#[test]
fn a_flood_of_failures_leaves_the_slow_requests() {
    let kept = new(100);
    for number in 0..10 {
        let slow = request(&kept, "/slow", 1_000 + number);
        kept.keep(slow, reasons(&[KeepReason::Slow]), rank(number, 0));
    }
    for _ in 0..10_000 {
        let failed = request(&kept, "/failed", 1);
        let id = kept.keep(failed, reasons(&[KeepReason::Failed]), rank(1, 0));
        assert!(kept.get(id.unwrap().id).is_some());
    }
    assert_eq!(of_reason(&kept, KeepReason::Slow).len(), 10);
    assert_eq!(of_reason(&kept, KeepReason::Failed).len(), 20);
    assert_eq!(kept.list(&KeptFilter::default()).len(), 30);
}

#[test]
fn the_slowest_of_the_last_hour_stay() {
    let kept = new(50);
    for milliseconds in (1..=100).rev().chain(101..=200) {
        let slow = request(&kept, "/a", milliseconds);
        kept.keep(slow, reasons(&[KeepReason::Slow]), rank(5, 0));
    }
    let mut times: Vec<_> = of_reason(&kept, KeepReason::Slow)
        .iter()
        .map(|request| request.duration.as_millis())
        .collect();
    times.sort_unstable();
    assert_eq!(times, (191..=200).collect::<Vec<_>>());
    let fast = request(&kept, "/a", 1);
    let none = kept.keep(fast, reasons(&[KeepReason::Slow]), rank(6, 0));
    assert!(none.is_none());
    // After an hour, the fast one has room.
    let later = rank(3_600_000_000_006, 0);
    let fast = request(&kept, "/a", 1);
    assert!(
        kept.keep(fast, reasons(&[KeepReason::Slow]), later)
            .is_some()
    );
    assert_eq!(of_reason(&kept, KeepReason::Slow).len(), 1);
}

#[test]
fn a_full_set_takes_less_than_8_megabytes() {
    // 16 + 8 queries, 24 + 8 other events, 17 polls, 17 waits and 6 unfinished events.
    let phases = 24 + 32 + 17 + 17 + 6;
    let left_out = 7;
    let bytes = size_of::<KeptRequest>()
        + 2 * size_of::<usize>()
        + phases * size_of::<crate::http::Phase>()
        + left_out * size_of::<crate::http::LeftOutPhases>()
        + size_of::<OfMinute>();
    // Each group of failures may have one more.
    let most = MOST_KEPT_REQUESTS + 200;
    assert!(bytes * most <= 8_000_000, "{bytes} bytes each");
    let shares: usize = KeepReason::ALL.map(KeepReason::share).iter().sum();
    assert_eq!(shares, 100);
}

#[test]
fn requests_of_excluded_endpoints_are_not_kept_and_each_tick_has_a_limit() {
    let kept = new(100);
    let failed = reasons(&[KeepReason::Failed, KeepReason::Random]);
    assert!(kept.allow(failed, "/metrics", at(1)).is_empty());
    let passed = |tick| {
        let tries = 0..900;
        tries
            .filter(|_| kept.allow(failed, "/a", at(tick)).has(KeepReason::Failed))
            .count()
    };
    assert_eq!((passed(1), passed(1), passed(2)), (20, 0, 20));
    let is_chosen = kept.allow(failed, "/a", at(2)).has(KeepReason::Random);
    assert!(is_chosen, "failures do not use up the room of others");
}

#[test]
fn the_slowest_of_an_endpoint_is_kept_if_it_is_much_slower_than_usual() {
    let selection = Selection::default();
    let slow = |second: u64, milliseconds: f64| {
        let rank = rank(second * 1_000_000_000, 0);
        let reasons = selection.consider(rank, milliseconds / 1e3);
        reasons.has(KeepReason::SlowForEndpoint)
    };
    assert!(!slow(1, 10.0), "the first is usual");
    assert!(!slow(1, 15.0));
    assert!(slow(1, 50.0));
    assert!(!slow(1, 40.0), "another one was slower");
    assert!(slow(1, 60.0));
    assert!(slow(61, 40.0), "in the next minute");
}

/// The positions of the chosen requests among the requests of their minutes, on several workers.
fn chosen_positions(minutes: u64, each: u64) -> Vec<u64> {
    let kept = new(MOST_KEPT_REQUESTS);
    let workers = [
        (Selection::default(), RandomNumbers::new(1)),
        (Selection::default(), RandomNumbers::new(2)),
    ];
    let mut chosen = Vec::new();
    for minute in 1..=minutes {
        for position in 0..each {
            // The first worker serves three quarters of them.
            let (selection, random) = &workers[usize::from(position % 4 == 3)];
            let rank = rank(minute * MINUTE + position, random.next());
            if selection.consider(rank, 0.01).has(KeepReason::Random) {
                let request = request(&kept, "/a", position + 1);
                kept.keep(request, reasons(&[KeepReason::Random]), rank);
            }
        }
        let of_minute = of_reason(&kept, KeepReason::Random);
        let newest = kept
            .lock()
            .random
            .back()
            .map(|one| one.request.duration.as_millis());
        assert!(of_minute.len() as u64 <= minute);
        chosen.push(u64::try_from(newest.unwrap()).unwrap() - 1);
    }
    chosen
}

#[test]
fn the_chosen_requests_are_a_fair_sample() {
    const CELLS: usize = 20;
    let (minutes, each) = (4_000, 40);
    let chosen = chosen_positions(minutes, each as u64);
    assert_eq!(chosen.len() as u64, minutes);
    let mut counts = [0_u32; CELLS];
    for position in chosen {
        counts[usize::try_from(position).unwrap() * CELLS / each] += 1;
    }
    let expected = minutes as f64 / CELLS as f64;
    let chi_square: f64 = counts
        .iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum();
    // With 19 degrees of freedom, a fair sample exceeds 43.8 once in a thousand times.
    assert!(chi_square < 43.8, "{chi_square}: {counts:?}");
}

#[test]
fn a_request_is_compared_with_the_median_of_its_endpoint() {
    let kept = new(100);
    for (minute, milliseconds) in [(1, 10), (2, 30), (3, 20)] {
        let chosen = request(&kept, "/a", milliseconds);
        kept.keep(
            chosen,
            reasons(&[KeepReason::Random]),
            rank(minute * MINUTE, 1),
        );
    }
    let other = request(&kept, "/b", 99);
    kept.keep(other, reasons(&[KeepReason::Random]), rank(MINUTE, 1));
    let slow = request(&kept, "/a", 500);
    let usual = kept.comparison(&slow).unwrap();
    assert_eq!(
        (usual.requests, usual.duration),
        (3, Duration::from_millis(20))
    );
    let on_loop = usual.times[PhaseKind::EventLoop as usize];
    assert_eq!(on_loop, Duration::from_millis(20));
    assert_eq!(kept.comparison(&request(&kept, "/c", 1)), None);
}

#[test]
fn ids_ascend_and_are_read_back() {
    let kept = new(10);
    let (first, second) = (kept.new_id(), kept.new_id());
    assert!(first < second);
    assert_eq!(first.to_string().parse(), Ok(first));
    for text in [
        "",
        "1",
        "00000000000000001",
        "000000000000000G",
        "000000000000000A",
        "+00000000000000f",
    ] {
        assert_eq!(text.parse::<KeptId>(), Err(NotAnId), "{text}");
    }
    let newest = request(&kept, "/a", 1);
    let id = newest.id;
    kept.keep(newest, reasons(&[KeepReason::Failed]), rank(1, 1));
    assert_eq!(kept.since(Some(second)).len(), 1);
    assert_eq!(kept.since(Some(id)).len(), 0);
}
