//! What stands in for a kind of profile that this build does not have.

use crate::{Profile, ProfileError};

/// Returns an error: the build has no processor profiles.
///
/// # Errors
///
/// Always.
#[cfg(not(all(target_os = "linux", feature = "cpu")))]
pub fn cpu_profile(
    _time: std::time::Duration,
    _hertz: u32,
    _work: &mut dyn crate::WorkSource,
    _stop: &std::sync::atomic::AtomicBool,
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
#[cfg(not(all(target_os = "linux", feature = "heap")))]
pub fn heap_profile() -> Result<Profile, ProfileError> {
    Err(ProfileError::Unavailable(
        "This build has no heap profiles: they need Linux and the features `profiling` and `jemalloc`."
            .to_owned(),
    ))
}

/// Returns an error: the build has no heap profiles.
///
/// # Errors
///
/// Always.
#[cfg(not(all(target_os = "linux", feature = "heap")))]
pub fn heap_growth(
    _time: std::time::Duration,
    _stop: &std::sync::atomic::AtomicBool,
) -> Result<Profile, ProfileError> {
    heap_profile()
}

/// Returns false: nothing is sampled.
#[cfg(not(all(target_os = "linux", feature = "heap")))]
pub fn is_heap_sampled() -> bool {
    false
}

/// Does nothing, and returns false.
#[cfg(not(all(target_os = "linux", feature = "heap")))]
pub fn activate_heap_profiles() -> bool {
    false
}
