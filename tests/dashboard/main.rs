//! The live page, and the one about the API, in a real browser: each of these runs one of the Node files beside it,
//! against the real binary.
//!
//! What is tested stands there; here is only how it is started.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

#[path = "../support/all.rs"]
mod support;

use std::path::Path;
use std::process::Command;

use support::tools;

fn run(theme: &str) {
    let test = format!("the browser test of {theme}");
    let (Some(node), Some(python)) = (tools::browser(&test), tools::python(&test)) else {
        return;
    };
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/dashboard/{theme}.test.mjs"));
    let output = Command::new(node)
        // What a failed test leaves open does not keep the others from being told.
        .args(["--test", "--test-reporter=spec", "--test-force-exit"])
        .arg("--test-timeout=120000")
        .arg(file)
        .env("VITALS_PYTHON", python)
        .env("VITALS_BINARY", env!("CARGO_BIN_EXE_actix-vitals"))
        .output()
        .expect("node starts");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{theme}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_page_loads_from_its_own_server_alone() {
    run("page");
}

#[test]
fn its_numbers_are_those_of_the_scrape() {
    run("numbers");
}

#[test]
fn it_tells_of_requests_that_failed() {
    run("faults");
}

#[test]
fn its_controls_work_by_mouse_and_keyboard() {
    run("controls");
}

#[test]
fn it_goes_on_after_a_restart_and_after_sleep() {
    run("continuity");
}

#[test]
fn it_is_accessible_and_nothing_overlaps() {
    run("access");
}

#[test]
fn the_page_about_the_api_works_under_its_policy() {
    run("docs");
}

#[test]
fn its_heap_stays_small() {
    run("memory");
}
