//! Measures cases that are compared. They take turns, so that a drift of the machine affects all of them. A turn consists of
//! several runs, so that each case finds its own data in the caches.

use std::time::{Duration, Instant};

/// One of the cases that take turns.
pub(crate) struct Case<'a> {
    name: &'static str,
    run: Box<dyn FnMut() + 'a>,
    times: Vec<Duration>,
}

impl<'a> Case<'a> {
    /// A case whose run is timed as a whole.
    pub(crate) fn new(name: &'static str, run: impl FnMut() + 'a) -> Self {
        Self {
            name,
            run: Box::new(run),
            times: Vec::new(),
        }
    }

    /// The fastest quarter's slowest time: what the work takes where nothing interferes.
    pub(crate) fn time(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[times.len() / 4]
    }
}

/// The runs of a turn; the first does not count.
const TURN: usize = 6;

/// Lets all cases take turns.
pub(crate) fn run(rounds: usize, cases: &mut [Case<'_>]) {
    for _ in 0..rounds.div_ceil(TURN - 1) {
        for case in &mut *cases {
            (case.run)();
            for _ in 1..TURN {
                let start = Instant::now();
                (case.run)();
                case.times.push(start.elapsed());
            }
        }
    }
}

/// Prints each case's time for one of `units` things, and how many times that is of the case named `base`.
pub(crate) fn print(title: &str, base: &str, units: u32, cases: &[Case<'_>]) {
    let base_time = cases.iter().find(|case| case.name == base).map(Case::time);
    let base_time = base_time.unwrap_or_default().as_secs_f64();
    println!(
        "\n{title}\n{:<44} {:>12} {:>16}",
        "", "time", "of the first"
    );
    for case in cases {
        let time = case.time();
        println!(
            "{:<44} {:>12} {:>15.2}x",
            case.name,
            format_time(time.as_secs_f64() / f64::from(units)),
            time.as_secs_f64() / base_time,
        );
    }
}

/// Seconds in a unit that leaves few digits.
fn format_time(seconds: f64) -> String {
    if seconds < 1e-6 {
        format!("{:.2} ns", seconds * 1e9)
    } else if seconds < 1e-3 {
        format!("{:.1} µs", seconds * 1e6)
    } else {
        format!("{:.2} ms", seconds * 1e3)
    }
}
