//! What one thing takes more than another, from turns of both in pairs. The machine's speed drifts, and other programs come
//! between; both change a pair as a whole, or single pairs. So the result is the median of the ratios, and how sure it is
//! follows from their order.

use std::time::Duration;

/// The times of pairs of turns, each for one unit of the turn.
#[derive(Default)]
pub(crate) struct Pairs {
    bare: Vec<f64>,
    ratios: Vec<f64>,
}

/// What is added to the bare time of a unit.
#[derive(Clone, Copy)]
pub(crate) struct Added {
    /// The bare time in nanoseconds.
    pub(crate) bare: f64,
    /// The added time, as a share of the bare one.
    pub(crate) share: f64,
    /// Between these is the share in 95 of 100 runs, as far as the pairs do not depend on each other.
    pub(crate) interval: [f64; 2],
    /// A quarter of the pairs is below the first one, and a quarter above the second.
    pub(crate) quartiles: [f64; 2],
}

impl Pairs {
    /// Adds a pair of turns that have this many units.
    pub(crate) fn push(&mut self, bare: Duration, ours: Duration, units: usize) {
        self.bare.push(bare.as_secs_f64() * 1e9 / units as f64);
        self.ratios.push(ours.as_secs_f64() / bare.as_secs_f64());
    }

    pub(crate) fn added(&self) -> Added {
        let mut ratios = self.ratios.clone();
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len() - 1;
        let at = |share: f64| ratios[((last as f64 * share) as usize).min(last)] - 1.0;
        // The binomial distribution of how many of the pairs are below the true median.
        let half = 0.98 / (ratios.len() as f64).sqrt();
        Added {
            bare: median(self.bare.clone()),
            share: at(0.5),
            interval: [at((0.5 - half).max(0.0)), at((0.5 + half).min(1.0))],
            quartiles: [at(0.25), at(0.75)],
        }
    }
}

impl Added {
    /// The added time in nanoseconds.
    pub(crate) fn nanoseconds(&self) -> f64 {
        self.bare * self.share
    }

    /// The share and its spread in percent.
    pub(crate) fn spread(&self) -> String {
        let [low, high] = self.interval.map(|share| share * 100.0);
        let [lower, upper] = self.quartiles.map(|share| share * 100.0);
        let share = self.share * 100.0;
        format!("{share:>+5.1} % ({low:+.1} to {high:+.1}), quartiles {lower:+.1} and {upper:+.1}")
    }
}

/// The median of these values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
