//! Tests that need the whole machine: they load it, or they check how soon something happens under load. Each waits for its turn
//! ([`support::turn`]), so they run one at a time. Cargo starts this binary after the others.

#![allow(
    clippy::expect_used,
    clippy::float_cmp,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may panic and print; counts are whole numbers, which floats represent exactly"
)]

mod support;

mod idle;
mod load;
mod outage;
mod soak;
mod timelines;

mod limits {
    #![allow(
        dead_code,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`limits` in the other binary uses the rest; counts are whole, small and not negative"
    )]

    mod guarded;
    mod slow;
}
