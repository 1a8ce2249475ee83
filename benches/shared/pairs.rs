//! What one thing takes more than another, from turns of both in pairs. The machine's speed drifts, and other programs come
//! between; both change a pair as a whole, or single pairs. So the result is the median of the ratios.

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
}

impl Pairs {
    /// Adds a pair of turns that have this many units.
    pub(crate) fn push(&mut self, bare: Duration, ours: Duration, units: usize) {
        self.bare.push(bare.as_secs_f64() * 1e9 / units as f64);
        self.ratios.push(ours.as_secs_f64() / bare.as_secs_f64());
    }

    pub(crate) fn added(&self) -> Added {
        Added {
            bare: quartiles(self.bare.clone())[1],
            share: quartiles(self.ratios.clone())[1] - 1.0,
        }
    }
}

impl Added {
    /// The added time in nanoseconds.
    pub(crate) fn nanoseconds(&self) -> f64 {
        self.bare * self.share
    }
}

/// A quarter of the values is below the first of these, half below the second, and a quarter above the third.
pub(crate) fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
