//! Tests what streams and history calls receive, in what order and without repetition, and what the hub keeps.

use super::*;
use crate::dashboard::tick::{RouteTick, TickDistribution};

const START: u64 = 1_700_000_000;

fn hub() -> Hub {
    let identity = ServiceIdentity {
        documentation: None,
        id: "1-2".to_owned(),
        name: "shop".to_owned(),
        version: "1.2.3".to_owned(),
        host: "a".to_owned(),
        pid: 1,
        cores: 2,
        started: 1.5,
        ops: vec!["/ops/requests"],
    };
    Hub::new(identity, START)
}

fn route(endpoint: &str) -> String {
    format!("GET {endpoint}")
}

fn tick(second: u64) -> Tick {
    Tick {
        time: START + second,
        width: 1,
        span_microseconds: 1_000_000,
        ..Tick::default()
    }
}

fn publish(hub: &Hub, seconds: std::ops::RangeInclusive<u64>) {
    for second in seconds {
        hub.publish(&tick(second), &[route("/data")]);
    }
}

/// All that a stream does not have yet.
fn events(hub: &Hub, cursor: &mut Cursor) -> String {
    let events = std::iter::from_fn(|| hub.next(cursor));
    events
        .map(|event| String::from_utf8(event.to_vec()).expect("text"))
        .collect()
}

/// The kinds of the events, ticks as their second.
fn kinds(events: &str) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for line in events.lines() {
        if let Some(kind) = line.strip_prefix("event: ") {
            kinds.push(kind.to_owned());
        } else if let Some(id) = line.strip_prefix("id: ") {
            let id: u64 = id.parse().expect("an id is a time");
            let kind = kinds.last_mut().expect("an event has a kind first");
            *kind = format!("{kind} {}", id - START);
        }
    }
    kinds
}

#[test]
fn a_stream_begins_with_a_greeting_and_goes_on_with_what_is_new() {
    let hub = hub();
    publish(&hub, 1..=3);
    let mut cursor = Cursor::new(None);
    let first = events(&hub, &mut cursor);
    assert!(first.starts_with("retry: 1000\nevent: hello\ndata: {\"instance\":{\"id\":\"1-2\""));
    assert!(first.contains("\"ops\":[\"/ops/requests\"]"), "{first}");
    assert_eq!(kinds(&first), ["hello"]);
    assert_eq!(events(&hub, &mut cursor), "");
    publish(&hub, 4..=5);
    assert_eq!(kinds(&events(&hub, &mut cursor)), ["tick 4", "tick 5"]);
    assert_eq!(events(&hub, &mut cursor), "");
}

#[test]
fn a_stream_that_resumes_gets_what_it_missed_once() {
    let hub = hub();
    publish(&hub, 1..=9);
    let mut cursor = Cursor::new(Some(START + 6));
    let sent = events(&hub, &mut cursor);
    assert_eq!(kinds(&sent), ["hello", "tick 7", "tick 8", "tick 9"]);
}

#[test]
fn a_stream_that_missed_too_much_is_told_to_ask_for_the_history() {
    let hub = hub();
    let _page = hub.subscribe();
    publish(&hub, 1..=500);
    let mut cursor = Cursor::new(Some(START + 6));
    assert_eq!(kinds(&events(&hub, &mut cursor)), ["hello", "reset 500"]);
    publish(&hub, 501..=501);
    assert_eq!(kinds(&events(&hub, &mut cursor)), ["tick 501"]);
}

#[test]
fn a_page_that_opens_after_a_rest_misses_nothing() {
    let hub = hub();
    publish(&hub, 1..=200);
    // Its history ends with tick 200. The next tick covers several seconds.
    hub.history(0, None, 1);
    let mut cursor = Cursor::new(Some(START + 200));
    assert_eq!(kinds(&events(&hub, &mut cursor)), ["hello"]);
    publish(&hub, 205..=206);
    assert_eq!(kinds(&events(&hub, &mut cursor)), ["tick 205", "tick 206"]);
}

#[test]
fn ticks_are_encoded_only_while_a_page_may_want_them() {
    let hub = hub();
    let encoded = |hub: &Hub| hub.lock().recent.events.len();
    publish(&hub, 1..=10);
    assert_eq!(encoded(&hub), 10, "a page of the run before may come back");
    publish(&hub, 11..=121);
    assert_eq!(encoded(&hub), 0);
    // A page that was away for so long asks for the history, and a new one has it.
    let mut away = Cursor::new(Some(START + 119));
    assert_eq!(kinds(&events(&hub, &mut away)), ["hello", "reset 121"]);
    let mut new = Cursor::new(None);
    assert_eq!(kinds(&events(&hub, &mut new)), ["hello"]);

    let page = hub.subscribe();
    publish(&hub, 122..=123);
    for cursor in [&mut away, &mut new] {
        assert_eq!(kinds(&events(&hub, cursor)), ["tick 122", "tick 123"]);
    }
    drop(page);
    publish(&hub, 124..=243);
    let mut resumed = Cursor::new(Some(START + 242));
    assert_eq!(kinds(&events(&hub, &mut resumed)), ["hello", "tick 243"]);
    publish(&hub, 244..=244);
    assert_eq!(encoded(&hub), 0);

    // A page reads the history before it opens its stream.
    hub.history(0, None, 1);
    publish(&hub, 245..=245);
    let mut after = Cursor::new(Some(START + 244));
    assert_eq!(kinds(&events(&hub, &mut after)), ["hello", "tick 245"]);
}

#[test]
fn a_stream_that_knew_the_server_before_its_restart_gets_all_of_the_new_one() {
    let hub = hub();
    publish(&hub, 7..=9);
    let mut cursor = Cursor::new(Some(START + 3));
    let sent = events(&hub, &mut cursor);
    assert_eq!(kinds(&sent), ["hello", "tick 7", "tick 8", "tick 9"]);
}

#[test]
fn an_id_from_the_future_does_not_silence_a_stream() {
    let hub = hub();
    publish(&hub, 1..=2);
    let mut cursor = Cursor::new(Some(u64::MAX));
    assert_eq!(kinds(&events(&hub, &mut cursor)), ["hello"]);
    publish(&hub, 3..=3);
    assert_eq!(kinds(&events(&hub, &mut cursor)), ["tick 3"]);
}

#[test]
fn a_tick_is_encoded_once_for_all_streams() {
    let hub = hub();
    publish(&hub, 1..=1);
    let tick = |mut cursor| {
        assert_eq!(kinds(&events(&hub, &mut cursor)), ["hello", "tick 1"]);
        cursor.time = START;
        hub.next(&mut cursor).expect("the tick again")
    };
    let [one, other] = [0, START].map(|since| tick(Cursor::new(Some(since))));
    assert_eq!(one.as_ptr(), other.as_ptr());
}

#[test]
fn a_new_route_is_named_before_the_first_tick_that_has_it() {
    let hub = hub();
    publish(&hub, 1..=1);
    let mut cursor = Cursor::new(None);
    events(&hub, &mut cursor);
    hub.publish(&tick(2), &[route("/data"), route("/other")]);
    let sent = events(&hub, &mut cursor);
    assert_eq!(kinds(&sent), ["routes", "tick 2"]);
    assert!(sent.contains(r#"data: {"from":1,"routes":["GET /other"]}"#));
}

#[test]
fn details_are_sent_when_they_change() {
    let hub = hub();
    let mut cursor = Cursor::new(None);
    assert_eq!(kinds(&events(&hub, &mut cursor)), ["hello"]);
    let details = DetailRows::default();
    hub.publish_details(&details);
    assert_eq!(kinds(&events(&hub, &mut cursor)), ["details"]);
    hub.publish_details(&details);
    assert_eq!(events(&hub, &mut cursor), "");
}

#[test]
fn a_history_is_that_of_the_seconds_asked_for() {
    let hub = hub();
    publish(&hub, 1..=30);
    let ticks = |since, until, step| -> Vec<u64> {
        let history: serde_json::Value =
            serde_json::from_slice(&hub.history(since, until, step)).expect("JSON");
        assert_eq!(history["instance"]["name"], "shop");
        assert_eq!(history["last"], START + 30);
        assert_eq!(history["routes"], serde_json::json!(["GET /data"]));
        assert_eq!(history["details"], serde_json::Value::Null);
        let ticks = history["ticks"].as_array().expect("a list").iter();
        ticks
            .map(|tick| tick["time"].as_u64().expect("a time") - START)
            .collect()
    };
    let start = i64::try_from(START).expect("it fits");
    assert_eq!(ticks(start + 27, None, 1), [28, 29, 30]);
    assert_eq!(ticks(-2, None, 1), [29, 30]);
    assert_eq!(ticks(0, Some(START + 2), 1), [1, 2]);
    assert_eq!(ticks(0, None, 15), [10, 25, 30]);
    assert_eq!(ticks(i64::MIN, None, 3600), [30]);
}

#[test]
fn what_is_closed_stays_closed() {
    let hub = hub();
    hub.close();
    publish(&hub, 1..=1);
    assert!(hub.is_closed());
}

/// A count that takes many bytes, so that few buckets fill the memory.
const MANY: u64 = 1 << 40;

/// A second in which this many routes have many latencies in each of 80 buckets.
fn busy(second: u64, routes: u32) -> Tick {
    let latency = TickDistribution {
        zeros: 0,
        buckets: (0..80)
            .map(|at| (at * 2 - 300, MANY + second % 50))
            .collect(),
    };
    let routes = (0..routes).map(|route| RouteTick {
        route,
        counts: [500, 0, 20, 3, 0],
        latency: latency.clone(),
        ..RouteTick::default()
    });
    Tick {
        routes: routes.collect(),
        ..tick(second)
    }
}

/// The bytes that a hub holds after this many of those seconds, and the hub.
fn held_after(seconds: u64, routes: u32) -> (usize, Hub) {
    let names: Vec<String> = (0..routes).map(|at| route(&format!("/{at}"))).collect();
    let ticks: Vec<Tick> = (1..=seconds).map(|second| busy(second, routes)).collect();
    let mut hub = None;
    let taken = allocation_counter::measure(|| {
        let busy = self::hub();
        let _page = busy.subscribe();
        for tick in &ticks {
            busy.publish(tick, &names);
        }
        hub = Some(busy);
    });
    let bytes = usize::try_from(taken.bytes_current).expect("it holds something");
    (bytes, hub.expect("a hub"))
}

#[test]
fn all_that_the_hub_keeps_is_within_its_limit() {
    for (seconds, routes) in [(400, 40), (16, 1000), (4, 4000)] {
        let (bytes, _hub) = held_after(seconds, routes);
        assert!(
            bytes <= MAX_BYTES,
            "{bytes} bytes after {seconds} seconds of {routes} routes"
        );
    }
}

#[test]
fn events_give_way_by_their_size_and_the_newest_stays() {
    for (routes, kept) in [(1, 120), (170, 8)] {
        let (_, hub) = held_after(130, routes);
        let state = hub.lock();
        let events = &state.recent.events;
        assert_eq!(events.len(), kept, "{routes} routes");
        assert_eq!(events.back().map(|event| event.time), Some(START + 130));
        let bytes: usize = events.iter().map(Event::bytes).sum();
        assert_eq!(
            state.recent.bytes - bytes,
            events.capacity() * size_of::<Event>()
        );
    }
    let (_, hub) = held_after(3, 1500);
    assert_eq!(
        hub.lock().recent.events.len(),
        1,
        "one is larger than all may be"
    );
    // Streams that fall behind ask for the history, and go on with the newest.
    let mut cursor = Cursor::new(Some(START));
    assert_eq!(kinds(&events(&hub, &mut cursor)), ["hello", "reset 3"]);
}

#[test]
fn a_history_has_no_more_bytes_than_the_hub_and_misses_nothing() {
    for (seconds, routes, is_coarser) in [(60, 1, false), (70, 200, true), (10, 2000, true)] {
        let (_, hub) = held_after(seconds, routes);
        let records = hub.lock().ring.between(0, u64::MAX);
        let kept: Vec<Tick> = merge(&records, 1).collect();
        let history = hub.history(0, None, 1);
        assert!(history.len() <= MAX_BYTES, "{} bytes", history.len());
        let history: serde_json::Value = serde_json::from_slice(&history).expect("JSON");
        let ticks = history["ticks"].as_array().expect("a list");
        assert_eq!(
            ticks.len() < kept.len(),
            is_coarser,
            "{seconds} s, {routes}"
        );
        let widths = |ticks: &mut dyn Iterator<Item = u64>| ticks.sum::<u64>();
        assert_eq!(
            widths(&mut ticks.iter().map(|tick| tick["width"].as_u64().unwrap())),
            widths(&mut kept.iter().map(|tick| tick.width)),
            "no second is missing"
        );
        let counted: u64 = ticks
            .iter()
            .flat_map(|tick| tick["routes"].as_array().unwrap())
            .map(|route| route[1][0].as_u64().unwrap())
            .sum();
        let expected: u64 = kept
            .iter()
            .flat_map(|tick| &tick.routes)
            .map(|route| route.counts[0])
            .sum();
        assert_eq!(counted, expected, "no request is missing");
    }
}

#[test]
fn a_history_takes_little_more_memory_than_it_has_bytes_while_it_is_made() {
    let (_, hub) = held_after(70, 200);
    let mut bytes = 0;
    let taken = allocation_counter::measure(|| bytes = hub.history(0, None, 1).len());
    let most = usize::try_from(taken.bytes_max).expect("it takes something");
    // The buffer doubles as it grows.
    assert!(most < 3 * MAX_BYTES, "{most} for {bytes}");
}
