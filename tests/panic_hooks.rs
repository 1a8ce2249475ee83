//! Several monitorings and an error reporter share the panic hook of a process: each counts once, and none is left out.

#![allow(clippy::expect_used, reason = "a test may panic")]

mod support;

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use actix_vitals::{Vitals, registry::Format};
use support::log::Log;
use tracing::Level;

fn vitals() -> Vitals {
    Vitals::builder().build().expect("defaults build")
}

fn counted(vitals: &Vitals) -> u64 {
    let text = String::from_utf8(vitals.registry().encode(Format::Text)).expect("UTF-8");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("vitals_panics_total "));
    line.and_then(|count| count.parse().ok()).expect("a count")
}

/// Installs a hook as an error reporter does, which counts the panics that it receives.
fn report_to(reported: &Arc<AtomicUsize>) {
    let reported = Arc::clone(reported);
    panic::set_hook(Box::new(move |_| {
        reported.fetch_add(1, Ordering::SeqCst);
    }));
}

fn panic_once() {
    let panicked = thread::spawn(|| panic!("as it must")).join();
    assert!(panicked.is_err());
}

#[test]
fn each_monitoring_counts_once_one_logs_and_the_previous_hook_is_called() {
    let log = Log::of_process(Level::ERROR);
    let calls = |reported: &Arc<AtomicUsize>| reported.load(Ordering::SeqCst);
    let logged = || {
        let lines = log.lines();
        lines
            .iter()
            .filter(|line| line.contains("as it must"))
            .count()
    };
    let reported = Arc::new(AtomicUsize::new(0));
    report_to(&reported);
    let (first, second, idle) = (vitals(), vitals(), vitals());
    first.watch_panics();
    first.clone().watch_panics();
    second.watch_panics();
    first.watch_panics();
    panic_once();
    let counts = || [&first, &second, &idle].map(counted);
    assert_eq!((counts(), logged(), calls(&reported)), ([1, 1, 0], 1, 1));

    // A later reporter that calls the hook it found.
    let found = panic::take_hook();
    let later = Arc::new(AtomicUsize::new(0));
    let of_later = Arc::clone(&later);
    panic::set_hook(Box::new(move |panic| {
        of_later.fetch_add(1, Ordering::SeqCst);
        found(panic);
    }));
    first.watch_panics();
    panic_once();
    assert_eq!((counts(), logged(), calls(&reported)), ([2, 2, 0], 2, 2));
    assert_eq!(calls(&later), 1);

    // A reporter that drops the hook it found: watching again installs a new hook.
    let alone = Arc::new(AtomicUsize::new(0));
    report_to(&alone);
    panic_once();
    assert_eq!((counts(), logged(), calls(&alone)), ([2, 2, 0], 2, 1));
    second.watch_panics();
    panic_once();
    assert_eq!((counts(), logged(), calls(&alone)), ([2, 3, 0], 3, 2));
    assert_eq!((calls(&reported), calls(&later)), (2, 1));
    drop(panic::take_hook());
}
