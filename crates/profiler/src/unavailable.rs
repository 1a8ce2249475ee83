//! What stands in for a kind of profile that this build does not have.

#![allow(
    dead_code,
    reason = "which of them are used depends on the features and the system"
)]

use std::{sync::atomic::AtomicBool, time::Duration};

use crate::{Profile, ProfileError, WorkSource};

/// Returns an error: the build has no processor profiles.
///
/// # Errors
///
/// Always.
pub fn cpu_profile(
    _time: Duration,
    _hertz: u32,
    _work: &mut dyn WorkSource,
    _stop: &AtomicBool,
) -> Result<Profile, ProfileError> {
    Err(ProfileError::Unavailable(
        "This build has no processor profiles: they need Linux and the feature `profiling`."
            .to_owned(),
    ))
}

/// Returns an error: the build has no heap profiles.
///
/// # Errors
///
/// Always.
pub fn heap_profile() -> Result<Profile, ProfileError> {
    Err(ProfileError::Unavailable(
        "This build has no heap profiles: they need Linux and the features `profiling` and `jemalloc`."
            .to_owned(),
    ))
}

/// Returns false: nothing is sampled.
pub fn is_heap_sampled() -> bool {
    false
}

/// Does nothing, and returns false.
pub fn activate_heap_profiles() -> bool {
    false
}
