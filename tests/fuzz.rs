//! Runs the check of every fuzz target on a bounded number of seeded mutations of its corpus. `cargo fuzz` does the same without
//! a bound, on the nightly toolchain.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::{fs, path::Path};

use rand::{Rng, SeedableRng, rngs::StdRng};

const MUTATIONS: usize = 20_000;

/// Runs a check on every seed of its corpus, and on seeds that were cut, spliced and garbled.
fn run(name: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut paths: Vec<_> = fs::read_dir(corpus)
        .expect("a corpus")
        .map(|entry| entry.expect("a seed").path())
        .collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| fs::read(path).expect("a seed"))
        .collect();
    assert!(seeds.len() >= 2, "a corpus of a few seeds");
    for seed in &seeds {
        check(seed);
    }
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..MUTATIONS {
        check(&mutation(&seeds, &mut random));
    }
}

fn mutation(seeds: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=input.len());
        match random.random_range(0..5) {
            0 => input.truncate(at),
            1 => input.insert(at, random.random()),
            2 => input.insert(
                at,
                *b",;=\"'()-*/\\$ \n\0q0"
                    .get(random.random_range(0..17))
                    .unwrap_or(&b'.'),
            ),
            3 if at < input.len() => {
                input.remove(at);
            }
            _ => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                input.splice(at..at, other[from..].iter().take(40).copied());
            }
        }
    }
    input
}

#[test]
fn negotiation_always_has_an_answer() {
    run("accept", checks::accept);
}

#[test]
fn a_trace_parent_is_read_as_it_stands_or_not_at_all() {
    run("traceparent", checks::traceparent);
}

#[test]
fn a_verb_does_not_depend_on_what_stands_before_the_statement() {
    run("verb", checks::verb);
}

#[test]
fn a_statement_has_a_bounded_shape_that_is_its_own_shape() {
    run("shape", checks::shape);
}

#[test]
fn a_label_value_survives_escaping() {
    run("label", checks::label);
}
