//! The registry as a whole: declared families, collectors and bridged ones, in all three formats.

use std::time::Duration;

use super::*;

fn clock() -> Duration {
    Duration::from_millis(1_700_000_000_250)
}

fn text(registry: &Registry, format: Format) -> String {
    String::from_utf8(registry.encode(format)).unwrap()
}

#[test]
fn a_small_registry_is_written_in_both_text_formats() {
    let mut builder = Registry::builder(clock).shards(1);
    let requests = builder.counter(Descriptor::new(
        "requests_total",
        "Requests \"so far\".",
        ["path"],
    ));
    let active = builder.gauge(Descriptor::new("active", "Active now.", []));
    let wait = builder.histogram(
        Descriptor::new("wait_seconds", "Waits.", []).unit(Unit::Seconds),
        &[0.5, 1.0],
    );
    let registry = builder.build().unwrap();
    requests.series(["/a\"\\\n"]).add(3);
    active.get().inc();
    for value in [0.25, 0.75, 7.0] {
        wait.get().observe(value);
    }
    insta::assert_snapshot!(text(&registry, Format::Text));
    insta::assert_snapshot!(text(&registry, Format::OpenMetrics));
}
