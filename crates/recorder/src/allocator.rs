//! jemalloc's statistics of the memory that it manages.
//!
//! They are meaningful only if jemalloc is the global allocator, so the program that sets it registers this collector. They
//! are refreshed once for each scrape, so that the three values are consistent.

use std::{error::Error, fmt};

use tikv_jemalloc_ctl::{epoch, epoch_mib, stats};
use vitals_registry::{Collector, FamilyDescription, FamilyRows, ReadFamily, Unit};

const ALLOCATED: ReadFamily = ReadFamily::gauge(
    "allocator_allocated_bytes",
    Unit::Bytes,
    "Bytes that the program has allocated and not freed; if this grows without end, there is a leak.",
);
const ACTIVE: ReadFamily = ReadFamily::gauge(
    "allocator_active_bytes",
    Unit::Bytes,
    "Bytes in pages with at least one allocation; if this is far above the allocated bytes, memory is fragmented.",
);
const RESIDENT: ReadFamily = ReadFamily::gauge(
    "allocator_resident_bytes",
    Unit::Bytes,
    "Bytes in pages that the allocator keeps in RAM, including its own and those not yet returned to the system.",
);

/// Reads jemalloc's statistics.
pub struct Allocator {
    epoch: epoch_mib,
    allocated: stats::allocated_mib,
    active: stats::active_mib,
    resident: stats::resident_mib,
}

impl Allocator {
    /// Returns the collector. It looks up the statistics once.
    ///
    /// # Errors
    ///
    /// Fails if jemalloc was built without statistics.
    pub fn new() -> Result<Self, tikv_jemalloc_ctl::Error> {
        Ok(Self {
            epoch: epoch::mib()?,
            allocated: stats::allocated::mib()?,
            active: stats::active::mib()?,
            resident: stats::resident::mib()?,
        })
    }
}

impl fmt::Debug for Allocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allocator").finish_non_exhaustive()
    }
}

impl Collector for Allocator {
    fn name(&self) -> &'static str {
        "allocator"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        [ALLOCATED, ACTIVE, RESIDENT]
            .iter()
            .map(ReadFamily::describe)
            .collect()
    }

    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        // Without this, jemalloc returns the values of the last refresh.
        self.epoch.advance().map_err(failure)?;
        rows.push(ALLOCATED.single(self.allocated.read().map_err(failure)? as f64));
        rows.push(ACTIVE.single(self.active.read().map_err(failure)? as f64));
        rows.push(RESIDENT.single(self.resident.read().map_err(failure)? as f64));
        Ok(())
    }
}

fn failure(error: tikv_jemalloc_ctl::Error) -> Box<dyn Error + Send + Sync> {
    error.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::samples;

    #[test]
    fn the_three_values_are_read_and_consistent() {
        let allocator = Allocator::new().unwrap();
        let read = samples(&allocator);
        let values: Vec<_> = allocator
            .describe()
            .iter()
            .map(|family| read[&family.name])
            .collect();
        assert_eq!(read.len(), 3);
        assert!(
            values[0] <= values[1] && values[1] <= values[2],
            "{values:?}"
        );
    }
}
