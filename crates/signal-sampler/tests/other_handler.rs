//! A program that handles SIGPROF itself, in a process of its own.
#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use signal_hook::{consts::SIGPROF, flag, low_level::raise};
use vitals_signal_sampler::{SignalSampling, StartError};

#[test]
fn another_handler_of_the_signal_is_left_alone() {
    let raised = Arc::new(AtomicBool::new(false));
    flag::register(SIGPROF, Arc::clone(&raised)).unwrap();
    let error = SignalSampling::start(Duration::from_millis(10)).unwrap_err();
    assert!(matches!(error, StartError::Handled), "{error}");
    raise(SIGPROF).unwrap();
    assert!(raised.load(Relaxed));
}
