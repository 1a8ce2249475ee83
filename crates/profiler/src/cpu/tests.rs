//! Profiles of this process beside threads that come and go, panics, and child processes.
//!
//! `VITALS_PROFILES` sets how often the sampling is started and stopped (500 by default; 10,000 takes minutes).

use std::{
    panic,
    process::Command,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{sampler::ThreadSampler, *};

/// Knows no work.
struct NoWork;

impl WorkSource for NoWork {
    fn work_at(&mut self, _: u32, _: u64) -> Option<Arc<str>> {
        None
    }
}

/// Starts to sample.
type Start = fn(u32) -> Result<Box<dyn ThreadSampler>, String>;

/// Both ways to sample, and their frequencies.
const WAYS: [(&str, Start, u32); 2] = [
    ("perf events", perf_events::start, 999),
    ("signals", signals::start, 100),
];

/// Takes a profile. `None` where the kernel does not allow it.
fn take(time: Duration) -> Option<Profile> {
    match cpu_profile(time, 999, &mut NoWork, &AtomicBool::new(false)) {
        Err(ProfileError::Denied(sentence)) => {
            assert!(sentence.contains("perf_event_open"), "{sentence}");
            None
        }
        taken => Some(taken.unwrap()),
    }
}

#[inline(never)]
fn spin_with_a_name(stop: &AtomicBool) {
    let mut number = 88_172_645_463_325_252_u64;
    while !stop.load(Relaxed) {
        number ^= number << 13;
        number ^= number >> 7;
        std::hint::black_box(number);
    }
}

#[test]
fn the_time_of_a_thread_is_that_of_its_function() {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| spin_with_a_name(&stop));
        let profile = take(Duration::from_secs(2));
        stop.store(true, Relaxed);
        let Some(profile) = profile else {
            return;
        };
        let (weight, by_endpoint) = profile.weight_of("spin_with_a_name");
        assert!(weight > 0, "{profile:?}");
        assert_eq!(by_endpoint.keys().collect::<Vec<_>>(), [""]);
        assert_eq!(profile.period, 1_001_001);
    });
}

#[test]
fn a_profile_that_is_stopped_ends() {
    let stopped = cpu_profile(
        Duration::from_secs(60),
        99,
        &mut NoWork,
        &AtomicBool::new(true),
    );
    assert!(matches!(
        stopped,
        Err(ProfileError::Stopped | ProfileError::Denied(_))
    ));
}

#[test]
fn profiles_start_and_stop_beside_panics_new_threads_and_child_processes() {
    let wanted = std::env::var("VITALS_PROFILES").ok();
    let wanted = wanted.map_or(500, |wanted| wanted.parse().unwrap());
    let files = || fs_count("/proc/self/fd");
    let before = files();
    let stop = AtomicBool::new(false);
    let counts = [const { AtomicU64::new(0) }; 3];
    let mut samples = [0_u64; WAYS.len()];
    thread::scope(|scope| {
        scope.spawn(|| spin_with_a_name(&stop));
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let caught = thread::spawn(|| panic::resume_unwind(Box::new(7))).join();
                assert!(caught.is_err());
                counts[0].fetch_add(1, Relaxed);
            }
        });
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let sum = thread::spawn(|| (0..10_000_u64).sum::<u64>()).join();
                assert_eq!(sum.unwrap(), 49_995_000);
                counts[1].fetch_add(1, Relaxed);
            }
        });
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let child = Command::new("true").status().unwrap();
                assert!(child.success());
                counts[2].fetch_add(1, Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        for (at, (_, start, hertz)) in WAYS.iter().enumerate() {
            for _ in 0..wanted {
                let Ok(way) = start(*hertz) else {
                    break;
                };
                let mut sampling = Sampling::of(way, None);
                thread::sleep(Duration::from_millis(1));
                sampling.add_new_threads();
                sampling.end();
                sampling.read(|_| samples[at] += 1);
            }
        }
        stop.store(true, Relaxed);
    });
    let ways = WAYS.map(|(name, _, _)| name);
    println!(
        "{wanted} starts each of {ways:?}: {samples:?} samples beside {counts:?} panics, threads and child processes"
    );
    // The tests run at once, in threads of their own: their files may be open at either time.
    assert!(files() <= before + 40, "{before} files, then {}", files());
}

fn fs_count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}
