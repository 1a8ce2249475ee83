//! Turns on jemalloc's sampling of allocations, which it only reads from its variable when a process starts.
//!
//! A program that was started without the variable starts itself again with it, in the same process and before anything
//! else. So sampling costs nothing where it is not wanted: jemalloc then runs without it.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    process::Command,
};

/// The variable of jemalloc.
const VARIABLE: &str = "_RJEM_MALLOC_CONF";

/// Samples can be taken, and are taken once they are activated: about one allocation in 512 KiB.
const OPTIONS: &str = "prof:true,prof_active:false,lg_prof_sample:19";

/// Starts the program again with jemalloc's sampling prepared, unless it is already or cannot be. Returns then.
pub fn prepare() {
    let present = env::var_os(VARIABLE).unwrap_or_default();
    let Some(options) = with_sampling(&present) else {
        return;
    };
    let mut arguments = env::args_os();
    let mut program = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        program.arg0(name);
    }
    let error = program.args(arguments).env(VARIABLE, options).exec();
    tracing::warn!(%error, "the program cannot start again: there are no heap profiles");
}

/// The options with sampling added; `None` if they have a choice already.
fn with_sampling(present: &OsStr) -> Option<OsString> {
    let mut options = present.to_owned();
    let text = present.to_string_lossy();
    let has_choice = text.split(',').any(|option| option.starts_with("prof:"));
    if has_choice {
        return None;
    }
    if !present.is_empty() {
        options.push(",");
    }
    options.push(OPTIONS);
    Some(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_is_added_once_and_a_choice_is_kept() {
        for (present, expected) in [
            ("", Some(OPTIONS.to_owned())),
            ("narenas:2", Some(format!("narenas:2,{OPTIONS}"))),
            (OPTIONS, None),
            ("narenas:2,prof:false", None),
        ] {
            let options = with_sampling(OsStr::new(present));
            assert_eq!(options, expected.map(OsString::from), "{present}");
        }
    }
}
