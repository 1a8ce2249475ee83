//! The memory and descriptors of the server at each scrape, and a check that they do not rise.

use std::fmt;

use crate::support::exposition::Exposition;

/// The allowed rise of memory from the second quarter to the last one: the live page's history grows for an hour, up to
/// 8 MB.
const MEMORY_RISE: f64 = 8.0 * 1024.0 * 1024.0;

/// The allowed rise of descriptors in use: the number of connections varies.
const DESCRIPTOR_RISE: f64 = 10.0;

/// The values of one metric over time.
struct Level {
    name: &'static str,
    most_rise: f64,
    values: Vec<f64>,
}

/// The metrics that are checked.
pub(crate) struct Levels {
    levels: [Level; 3],
    cpu_seconds: Vec<f64>,
}

impl Default for Levels {
    fn default() -> Self {
        let level = |name, most_rise| Level {
            name,
            most_rise,
            values: Vec::new(),
        };
        Self {
            levels: [
                level("process_resident_memory_bytes", MEMORY_RISE),
                level("allocator_allocated_bytes", MEMORY_RISE),
                level("process_open_fds", DESCRIPTOR_RISE),
            ],
            cpu_seconds: Vec::new(),
        }
    }
}

impl Levels {
    pub(crate) fn note(&mut self, scrape: &Exposition) {
        for level in &mut self.levels {
            level.values.push(scrape.value(level.name, &[]));
        }
        self.cpu_seconds
            .push(scrape.value("process_cpu_seconds_total", &[]));
    }

    /// Checks that after the first quarter, the warm-up, no metric rises by more than its allowance.
    pub(crate) fn are_flat(&self) {
        for level in &self.levels {
            let [_, second, _, last] = level.quarters();
            let rise = last - second;
            assert!(rise <= level.most_rise, "{} rises by {rise}", level.name);
        }
    }
}

impl Level {
    /// The median of each quarter of the time.
    fn quarters(&self) -> [f64; 4] {
        let count = self.values.len();
        [0, 1, 2, 3].map(|quarter| {
            let mut values = self.values[count * quarter / 4..count * (quarter + 1) / 4].to_vec();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        })
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for level in &self.levels {
            writeln!(f, "{:<30} by quarter: {:?}", level.name, level.quarters())?;
        }
        let spent =
            self.cpu_seconds.last().unwrap_or(&0.0) - self.cpu_seconds.first().unwrap_or(&0.0);
        write!(
            f,
            "{spent:.1} s of CPU time in {} looks",
            self.cpu_seconds.len()
        )
    }
}
