//! The cost of one event of a request's timeline, by itself: what is stored when a query or a wait begins and ends. The clock is
//! read outside of what is timed, because the recorder reads it once for all that it notes. An event is noted by a thread that has
//! the request alone, or beside others.
//!
//! `cargo bench -p vitals-recorder --bench events`

#![allow(clippy::print_stdout, missing_docs)]

#[path = "../src/context/access.rs"]
mod access;
#[path = "../src/clock.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part of the library")]
mod clock;
#[path = "../src/context/events.rs"]
#[allow(dead_code, reason = "a part of the library")]
mod events;

use std::{
    hint::black_box,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use access::Access;
use clock::Moment;
use events::{Event, EventKind, Events};

const ROUNDS: usize = 10_000;
/// Events of a request: as many as have a slot each.
const FIRST: u64 = 16;
/// Events of a request that has many.
const MANY: u64 = 256;

fn moment(nanoseconds: u64) -> Moment {
    Moment::from_nanoseconds(black_box(nanoseconds))
}

/// Notes the beginning and the end of a query.
fn query(events: &Events, number: u64, _: Access) {
    let statement = NonZeroU32::new(7);
    let (began, ended) = (moment(1_000 + number), moment(2_000 + number));
    events.begin_query(statement, began);
    events.over(EventKind::Query);
    let query = Event {
        statement,
        ..Event::new(EventKind::Query, began, ended)
    };
    events.add_query(number, &query);
}

/// Notes the beginning and the end of a wait.
fn wait(events: &Events, number: u64, access: Access) {
    let (began, ended) = (moment(1_000 + number), moment(2_000 + number));
    events.begin(EventKind::PoolWait, began);
    events.add(&Event::new(EventKind::PoolWait, began, ended), access);
}

/// The time of one event in nanoseconds, where a request has this many.
fn measure(count: u64, note: impl Fn(&Events, u64, Access), access: Access) -> f64 {
    let mut events = Events::default();
    let times = (0..ROUNDS).map(|_| {
        let started = Instant::now();
        for number in 0..count {
            note(black_box(&events), number, black_box(access));
        }
        let took = started.elapsed();
        events.clear(count);
        took
    });
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[ROUNDS / 4].as_secs_f64() * 1e9 / count as f64
}

fn main() {
    println!(
        "{:<24} {:>8} {:>8} {:>10}",
        "an event", "alone", "beside", "at most"
    );
    let time = |count, note: fn(&Events, u64, Access)| {
        [Access::Sole, Access::Shared].map(|access| measure(count, note, access))
    };
    for (name, [alone, beside]) in [
        ("a query, of the first", time(FIRST, query)),
        ("a query, of many", time(MANY, query)),
        ("a wait, of the first", time(FIRST, wait)),
        ("a wait, of many", time(MANY, wait)),
    ] {
        println!(
            "{name:<24} {alone:>5.1} ns {beside:>5.1} ns {:>10}",
            "10 ns"
        );
    }
}
