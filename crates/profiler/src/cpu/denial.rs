//! Why the kernel does not let the process sample itself, and what would allow it.

use std::{fs, io};

/// Error numbers of Linux.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EMFILE: i32 = 24;
const ENOSYS: i32 = 38;

/// Why a sampler could not be opened, in sentences for operators.
pub(super) fn of(error: &io::Error) -> String {
    let number = error.raw_os_error().unwrap_or(0);
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok();
    let paranoid = paranoid.and_then(|level| level.trim().parse().ok());
    // The name of the process is cut to 15 bytes, perhaps within a letter.
    let status = fs::read("/proc/self/status").unwrap_or_default();
    let has_filter = has_seccomp_filter(&String::from_utf8_lossy(&status));
    sentence(number, paranoid, has_filter)
}

/// Whether a filter of system calls is active, by `/proc/self/status`.
fn has_seccomp_filter(status: &str) -> bool {
    let mut lines = status.lines();
    let mode = lines.find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == "2")
}

/// What is missing, and how to allow it.
fn sentence(number: i32, paranoid: Option<i32>, has_filter: bool) -> String {
    let level = paranoid.map_or_else(|| "not readable".to_owned(), |level| level.to_string());
    match number {
        ENOSYS | EPERM if has_filter => format!(
            "A seccomp filter forbids perf_event_open (kernel.perf_event_paranoid is {level}). Allow it in the container: \
             with Docker, `--cap-add PERFMON`, or a seccomp profile with perf_event_open; in Kubernetes, the capability \
             PERFMON or such a profile in the securityContext."
        ),
        ENOSYS | ENOENT => "The kernel has no perf_event_open.".to_owned(),
        EPERM | EACCES => format!(
            "The kernel forbids perf_event_open: kernel.perf_event_paranoid is {level}. Allow it with \
             `sysctl kernel.perf_event_paranoid=2`, or give the process the capability CAP_PERFMON."
        ),
        EMFILE => "The process has no free file descriptors for its samplers: raise its limit of open files.".to_owned(),
        _ => format!(
            "perf_event_open fails with error {number} (kernel.perf_event_paranoid is {level})."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_denial_says_what_is_missing_and_how_to_allow_it() {
        for (number, paranoid, has_filter, expected) in [
            (
                EACCES,
                Some(4),
                false,
                ["paranoid is 4", "perf_event_paranoid=2"],
            ),
            (EPERM, Some(3), false, ["paranoid is 3", "CAP_PERFMON"]),
            (EPERM, Some(2), true, ["seccomp", "--cap-add PERFMON"]),
            (ENOSYS, None, true, ["seccomp", "is not readable"]),
            (
                ENOSYS,
                Some(2),
                false,
                ["The kernel", "has no perf_event_open"],
            ),
            (EMFILE, Some(2), false, ["file descriptors", "raise"]),
            (22, Some(2), false, ["error 22", "paranoid is 2"]),
        ] {
            let sentence = sentence(number, paranoid, has_filter);
            for part in expected {
                assert!(sentence.contains(part), "{number}: {sentence}");
            }
        }
    }

    #[test]
    fn a_filter_is_recognised() {
        assert!(has_seccomp_filter(
            "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"
        ));
        assert!(!has_seccomp_filter(
            "Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n"
        ));
        assert!(!has_seccomp_filter(""));
    }
}
