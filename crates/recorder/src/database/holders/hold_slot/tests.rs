use std::{sync::atomic::AtomicBool, thread};

use super::*;
use crate::database::{DatabaseFamilies, holders::PoolHolders};

fn slot() -> Arc<HoldSlot> {
    PoolHolders::new(&DatabaseFamilies::of_a_test(), "default").new_slot()
}

#[test]
fn a_slot_is_read_only_while_its_connection_is_out() {
    let slot = slot();
    assert!(slot.read().is_none());
    for _ in 0..2 {
        let here = Location::caller();
        assert!(!slot.end(Duration::ZERO), "none was begun");
        slot.begin(Some(here), clock::now());
        let reading = slot.read().unwrap();
        assert_eq!(reading.owner, WorkOwner::default());
        assert_eq!(reading.taken_at, Some(here));
        assert_eq!(reading.activity, HoldActivity::Idle);
        assert!(slot.report(&reading), "each hold is reported");
        assert!(!slot.report(&reading), "once");
        assert!(slot.end(Duration::ZERO));
        assert!(slot.read().is_none());
    }
}

#[test]
fn the_age_of_a_connection_begins_with_its_opening() {
    let holders = PoolHolders::new(&DatabaseFamilies::of_a_test(), "default");
    let slot = holders.new_slot();
    let now = clock::now().after(Duration::from_secs(60));
    for seconds in [9, 0, 5] {
        let age = Duration::from_secs(seconds);
        slot.opened(NonZeroU32::new(7), now.before(age));
        let connections = holders.connections(now);
        assert_eq!((connections[0].backend, connections[0].age), (7, age));
    }
}

#[test]
fn a_statement_is_shown_while_it_runs() {
    let slot = slot();
    slot.begin(None, clock::now());
    let since = Moment::from_nanoseconds(1 << 40);
    slot.runs(NonZeroU32::new(7), since);
    let reading = slot.read().unwrap();
    assert_eq!(reading.activity, HoldActivity::Query);
    assert_eq!((reading.activity_since, reading.taken_at), (since, None));
    assert_eq!(reading.statement, NonZeroU32::new(7));
    for (in_transaction, expected) in [
        (true, HoldActivity::IdleInTransaction),
        (false, HoldActivity::Idle),
    ] {
        slot.rests(in_transaction, since);
        let reading = slot.read().unwrap();
        assert_eq!((reading.activity, reading.statement), (expected, None));
    }
}

#[test]
fn a_reader_never_mixes_two_holds() {
    let slot = slot();
    let is_over = AtomicBool::new(false);
    let owner = |name: u32| WorkOwner {
        name,
        trace_id: [0, u64::from(name)],
        ..WorkOwner::default()
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut name = 1;
            while !is_over.load(Relaxed) {
                let since = Moment::from_nanoseconds(u64::from(name));
                slot.begin_for(owner(name), 0, since);
                slot.runs(NonZeroU32::new(name), since);
                slot.rests(false, since);
                slot.end(Duration::ZERO);
                name = 3 - name;
            }
        });
        let mut seen = 0;
        while seen < 1000 {
            let Some(reading) = slot.read() else {
                continue;
            };
            let name = reading.owner.name;
            assert_eq!(reading.owner, owner(name));
            assert_eq!(reading.since.nanoseconds(), u64::from(name));
            assert_eq!(reading.activity_since, reading.since);
            assert!(reading.statement.is_none_or(|found| found.get() == name));
            seen += 1;
        }
        is_over.store(true, Relaxed);
    });
}
