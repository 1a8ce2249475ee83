//! The ring under hours of ticks: what it keeps, what it takes, and that merging loses no count.

use super::*;
use crate::dashboard::tick::{RouteTick, TickDistribution};

const START: u64 = 1_700_000_000;

/// A second with `routes` busy routes whose latencies spread over `buckets` buckets.
fn tick(time: u64, routes: u32, buckets: i32) -> Tick {
    let distribution = TickDistribution {
        zeros: 0,
        buckets: (0..buckets)
            .map(|at| (at * 2 - 300, 7 + time % 50))
            .collect(),
    };
    Tick {
        time,
        width: 1,
        span_microseconds: 1_000_000,
        levels: [Some(50_000_000); 9],
        cpu_microseconds: Some(900_000),
        lag: distribution.clone(),
        queries: [1000; 5],
        query: distribution.clone(),
        routes: (0..routes)
            .map(|route| RouteTick {
                route,
                counts: [500, 0, 20, 3, 0],
                microseconds: 3_000_000,
                latency: distribution.clone(),
                queries: Some(2000),
                database_microseconds: Some(1_500_000),
                n_plus_one: Some(0),
                loop_microseconds: Some(400_000),
            })
            .collect(),
        stalls: vec![(routes, 1)],
    }
}

fn filled(seconds: u64, routes: u32, buckets: i32) -> Ring {
    let mut ring = Ring::new(MAX_BYTES);
    for second in 0..seconds {
        ring.push(&tick(START + second, routes, buckets));
        assert!(ring.bytes <= MAX_BYTES, "after {second} seconds");
    }
    ring
}

fn requests(ticks: &[Tick]) -> u64 {
    (ticks.iter().flat_map(|tick| &tick.routes))
        .map(|route| route.counts.iter().sum::<u64>())
        .sum()
}

#[test]
fn an_hour_is_kept_second_by_second_where_it_fits() {
    let ring = filled(4000, 5, 60);
    let ticks: Vec<Tick> = merge(&ring.between(0, u64::MAX), 1).collect();
    assert_eq!(ticks.len(), 3600);
    assert_eq!(ticks[0].time, START + 400);
    assert_eq!(ticks[3599], tick(START + 3999, 5, 60));
}

#[test]
fn a_busier_hour_is_kept_whole_with_its_oldest_part_coarser() {
    let ring = filled(4000, 40, 60);
    let ticks: Vec<Tick> = merge(&ring.between(0, u64::MAX), 1).collect();
    let widths: u64 = ticks.iter().map(|tick| tick.width).sum();
    assert!((3600..3600 + COARSE).contains(&widths), "{widths}");
    assert_eq!(requests(&ticks), widths * 40 * 523);
    assert!(ticks.first().is_some_and(|tick| tick.width == COARSE));
    let fine = ticks
        .iter()
        .rev()
        .take_while(|tick| tick.width == 1)
        .count();
    assert!(fine >= 300, "{fine} of the newest seconds are single");
}

#[test]
fn the_bytes_are_never_exceeded_however_much_happens() {
    let ring = filled(120, 1000, 80);
    let ticks: Vec<Tick> = merge(&ring.between(0, u64::MAX), 1).collect();
    assert_eq!(ticks.last().map(|tick| tick.time), Some(START + 119));
}

#[test]
fn the_allocator_agrees_on_the_size() {
    let mut ring = None;
    let taken = allocation_counter::measure(|| ring = Some(filled(3600, 20, 60)));
    let bytes = usize::try_from(taken.bytes_current).expect("it holds something");
    let counted = ring.map(|ring| ring.bytes).unwrap_or_default();
    assert!(bytes <= MAX_BYTES, "{bytes} bytes held, {counted} counted");
    assert!(bytes <= counted, "{bytes} bytes held, {counted} counted");
}

#[test]
fn a_range_is_that_of_the_ends_of_its_ticks() {
    let ring = filled(100, 1, 5);
    let times = |since, until| -> Vec<u64> {
        let ticks: Vec<Tick> = merge(&ring.between(since, until), 1).collect();
        ticks.iter().map(|tick| tick.time).collect()
    };
    assert_eq!(times(START + 10, START + 12), [START + 11, START + 12]);
    assert_eq!(times(START + 98, u64::MAX), [START + 99]);
    assert!(times(START + 99, u64::MAX).is_empty());
    assert!(times(START + 20, START + 10).is_empty());
}

#[test]
fn ticks_merge_at_the_full_steps_of_the_clock() {
    let ring = filled(60, 3, 20);
    let ticks: Vec<Tick> = merge(&ring.between(START, u64::MAX), 15).collect();
    let ends: Vec<u64> = ticks.iter().map(|tick| tick.time).collect();
    // 1,700,000,000 is 5 seconds past a multiple of 15.
    assert_eq!(
        ends,
        [START + 10, START + 25, START + 40, START + 55, START + 59]
    );
    let widths: Vec<u64> = ticks.iter().map(|tick| tick.width).collect();
    assert_eq!(widths, [10, 15, 15, 15, 4]);
    assert_eq!(requests(&ticks), 59 * 3 * 523);
    assert_eq!(ticks[1].levels[0], Some(50_000_000));
    assert_eq!(ticks[1].routes.len(), 3);
}
