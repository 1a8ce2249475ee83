//! Samplings of threads of this process. One is active at a time, so the tests take turns.

use std::{
    fs,
    hint::black_box,
    process::Command,
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Instant,
};

use super::*;

static TURN: Mutex<()> = Mutex::new(());

const PERIOD: Duration = Duration::from_millis(10);

/// How long to wait for a sample.
const BOUND: Duration = Duration::from_secs(60);

/// Runs on a thread of its own until it is stopped.
#[inline(never)]
fn spin(stop: &AtomicBool) {
    let mut number = 1_u64;
    while !stop.load(Relaxed) {
        number = black_box(number.wrapping_mul(6_364_136_223_846_793_005));
    }
}

/// Samples a thread that spins until `enough`.
fn samples_until(enough: impl Fn(&[Sample]) -> bool) -> (u32, Vec<Sample>) {
    let stop = AtomicBool::new(false);
    let mut sampling = SignalSampling::start(PERIOD).unwrap();
    let mut samples = Vec::new();
    let deadline = Instant::now() + BOUND;
    let thread = thread::scope(|scope| {
        let (sender, id) = mpsc::channel();
        scope.spawn(|| {
            sender.send(system::own_thread()).unwrap();
            drop(sender);
            spin(&stop);
        });
        let thread = id.recv().unwrap();
        sampling.add(thread).unwrap();
        while !enough(&samples) && Instant::now() < deadline {
            thread::sleep(PERIOD);
            sampling.read(|sample| samples.push(sample));
        }
        stop.store(true, Relaxed);
        thread
    });
    sampling.end();
    assert!(enough(&samples), "{samples:?}");
    assert_eq!(sampling.lost(), 0);
    (thread, samples)
}

/// The ranges of memory with code.
fn code() -> Vec<std::ops::Range<u64>> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let ranges = maps.lines().filter(|line| line.contains(" r-xp "));
    let ranges = ranges.map(|line| line.split_once(' ').unwrap().0.split_once('-').unwrap());
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    ranges
        .map(|(start, end)| number(start)..number(end))
        .collect()
}

#[test]
fn a_thread_that_runs_is_sampled_in_order_at_an_instruction() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (thread, samples) = samples_until(|samples| samples.len() >= 20);
    let code = code();
    let mut last = 0;
    for sample in &samples {
        assert_eq!(sample.thread, thread);
        assert!(sample.nanoseconds > last && sample.expirations >= 1);
        last = sample.nanoseconds;
        let address = sample.addresses[0];
        assert!(code.iter().any(|range| range.contains(&address)));
    }
}

#[test]
fn threads_that_run_for_less_than_a_period_are_sampled() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sampling = SignalSampling::start(PERIOD).unwrap();
    for _ in 0..60 {
        let (go, wait) = mpsc::channel::<()>();
        let (sender, id) = mpsc::channel();
        let thread = thread::spawn(move || {
            sender.send(system::own_thread()).unwrap();
            let _gone = wait.recv();
            use_processor(PERIOD / 10 * 4);
        });
        sampling.add(id.recv().unwrap()).unwrap();
        drop(go);
        thread.join().unwrap();
    }
    let mut count = 0;
    sampling.read(|sample| count += sample.expirations);
    // The time is counted in ticks of the kernel: each has used 4 to 8 ms where a tick takes 4 ms.
    assert!((10..=80).contains(&count), "{count}");
}

#[test]
fn the_first_samples_spread_over_the_period() {
    let mut tenths = [0; 10];
    for number in 0..1_000 {
        let first = part(PERIOD, number);
        assert!(first > Duration::ZERO && first <= PERIOD, "{first:?}");
        let tenth = first.as_nanos() * 10 / PERIOD.as_nanos();
        tenths[usize::try_from(tenth).unwrap()] += 1;
    }
    assert!(
        tenths.iter().all(|count| (95..=105).contains(count)),
        "{tenths:?}"
    );
    assert_eq!(part(Duration::ZERO, 7), Duration::ZERO);
}

#[test]
fn one_sampling_is_active_at_a_time() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let first = SignalSampling::start(PERIOD).unwrap();
    let second = SignalSampling::start(PERIOD).unwrap_err();
    assert!(matches!(second, StartError::Active), "{second}");
    drop(first);
    drop(SignalSampling::start(PERIOD).unwrap());
}

#[test]
fn a_thread_that_waits_is_not_sampled_and_one_that_has_ended_cannot_be() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sampling = SignalSampling::start(PERIOD).unwrap();
    let (end, ended) = mpsc::channel::<()>();
    let (sender, id) = mpsc::channel();
    let waiting = thread::spawn(move || {
        sender.send(system::own_thread()).unwrap();
        let _ended = ended.recv();
    });
    let id = id.recv().unwrap();
    sampling.add(id).unwrap();
    thread::sleep(10 * PERIOD);
    sampling.read(|sample| panic!("{sample:?}"));
    drop(end);
    waiting.join().unwrap();
    let path = format!("/proc/self/task/{id}");
    while fs::exists(&path).unwrap() {
        thread::yield_now();
    }
    sampling.remove(id);
    assert!(sampling.add(id).is_err());
}

#[test]
fn a_child_process_starts_with_the_default_action() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let sampling = SignalSampling::start(PERIOD).unwrap();
    let status = Command::new("cat").arg("/proc/self/status").output();
    drop(sampling);
    let status = String::from_utf8(status.unwrap().stdout).unwrap();
    for set in ["SigIgn:", "SigCgt:"] {
        let line = status.lines().find_map(|line| line.strip_prefix(set));
        let signals = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
        assert_eq!(signals >> (libc::SIGPROF - 1) & 1, 0, "{status}");
    }
}

/// The kernel keeps 15 bytes of a name: here, half of the last letter.
#[test]
fn a_thread_whose_name_is_cut_within_a_letter_can_be_sampled() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let named = thread::Builder::new().name("fourteen bytesé".to_owned());
    let sampled = named.spawn(|| {
        let mut sampling = SignalSampling::start(PERIOD).unwrap();
        sampling.add(system::own_thread())
    });
    sampled.unwrap().join().unwrap().unwrap();
}

/// Spins until this thread has used so much processor time.
fn use_processor(time: Duration) {
    let path = format!("/proc/self/task/{}/schedstat", system::own_thread());
    let used = || -> u64 {
        let text = fs::read_to_string(&path).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    let end = used() + u64::try_from(time.as_nanos()).unwrap();
    while used() < end {
        black_box(());
    }
}

#[test]
fn a_signal_of_an_earlier_sampling_is_ignored() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sampling = SignalSampling::start(PERIOD).unwrap();
    let own = system::own_thread();
    let mut counts = Vec::new();
    for generation in [sampling.generation.wrapping_sub(1), sampling.generation] {
        let timer = Timer::start(own, generation, PERIOD, PERIOD).unwrap();
        use_processor(20 * PERIOD);
        drop(timer);
        let mut count = 0;
        sampling.read(|_| count += 1);
        counts.push(count);
    }
    assert!(counts[0] == 0 && counts[1] > 0, "{counts:?}");
}

#[test]
fn a_signal_of_a_program_is_ignored() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    drop(SignalSampling::start(PERIOD).unwrap());
    let mut sampling = SignalSampling::start(PERIOD).unwrap();
    for is_active in [true, false] {
        let id = std::process::id().to_string();
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -PROF {id}")])
            .status();
        assert!(kill.unwrap().success());
        sampling.read(|sample| panic!("{sample:?}"));
        if is_active {
            sampling.end();
        }
    }
}

#[test]
fn a_thread_that_blocks_the_signal_starts_no_sampling() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let started = thread::spawn(|| {
        system::tests::block_the_signal();
        SignalSampling::start(PERIOD).map(drop)
    });
    let error = started.join().unwrap().unwrap_err();
    assert!(matches!(error, StartError::Blocked), "{error}");
}

#[test]
fn a_thread_that_blocks_the_signal_is_rejected() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sampling = SignalSampling::start(PERIOD).unwrap();
    let mut add = |is_blocked: bool| {
        let (sender, id) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let waiting = thread::spawn(move || {
            if is_blocked {
                system::tests::block_the_signal();
            }
            sender.send(system::own_thread()).unwrap();
            ended.recv()
        });
        let added = sampling.add(id.recv().unwrap());
        drop(end);
        assert!(waiting.join().unwrap().is_err());
        added
    };
    add(false).unwrap();
    let error = add(true).unwrap_err();
    assert!(error.to_string().contains("blocks SIGPROF"), "{error}");
}
