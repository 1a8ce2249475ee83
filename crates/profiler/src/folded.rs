//! Folded stacks: a line for each stack, as the tools for flame graphs read them.

use std::fmt::Write as _;

use crate::{Profile, ProfileKind};

/// The name of the root of what no request and no job ran.
pub(crate) const NO_REQUEST: &str = "(no request)";

/// The stack of an allocation whose callers are not known.
const NO_FRAMES: &str = "(unknown)";

/// Writes a profile as folded stacks: the endpoint in brackets and the functions, separated by semicolons, and the weight in
/// samples or bytes. A heap profile has no endpoints.
pub fn folded(profile: &Profile) -> String {
    let mut out = String::new();
    for stack in &profile.stacks {
        let amount = match profile.kind {
            ProfileKind::Cpu => stack.count,
            ProfileKind::Heap | ProfileKind::HeapGrowth => stack.weight,
        };
        if profile.kind == ProfileKind::Cpu {
            let endpoint = stack.endpoint.as_deref().unwrap_or(NO_REQUEST);
            push_name(&mut out, endpoint);
            out.push(';');
        }
        for frame in profile.frames_of(stack) {
            push_name(&mut out, &frame.function);
            out.push(';');
        }
        if out.ends_with(';') {
            out.pop();
        } else {
            // An allocation without any caller.
            out.push_str(NO_FRAMES);
        }
        // Writing to a string cannot fail.
        let _written = writeln!(out, " {amount}");
    }
    out
}

/// Appends a name, in which a separator becomes a comma.
fn push_name(out: &mut String, name: &str) {
    let separators = |c: char| c == ';' || c.is_control();
    out.push_str(&name.replace(separators, ","));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::profile;

    #[test]
    fn each_stack_is_a_line_and_a_name_cannot_break_out_of_it() {
        let profile = profile(&[
            ("/orders/{id}", &["main", "[u8; 4]::hash"], 20),
            ("", &["main", "a\nb"], 10),
        ]);
        assert_eq!(
            folded(&profile),
            "/orders/{id};main;[u8, 4]::hash 1\n(no request);main;a,b 1\n"
        );
    }

    #[test]
    fn an_allocation_without_callers_is_a_line_of_its_own() {
        let mut profile = profile(&[("", &["main"], 20), ("", &[], 10)]);
        profile.kind = ProfileKind::Heap;
        assert_eq!(folded(&profile), "main 20\n(unknown) 10\n");
    }
}
