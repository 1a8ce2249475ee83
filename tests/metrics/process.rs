//! The levels of the process, its runtime and its allocator, compared with `/proc` of the same process.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::server::Server;
use crate::support::settled::expect_count;
use crate::support::{tools, wait};

/// The contents of `/proc/PID/NAME`.
fn proc_file(server: &Server, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{}/{name}", server.pid())).expect("the process lives")
}

/// The number in a line of `/proc/PID/status`, in the unit of that line.
fn status_line(server: &Server, key: &str) -> f64 {
    let status = proc_file(server, "status");
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .unwrap_or_else(|| panic!("no {key} in {status}"));
    line.split_ascii_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

fn entries(server: &Server, directory: &str) -> f64 {
    let entries = std::fs::read_dir(format!("/proc/{}/{directory}", server.pid()))
        .expect("the process lives");
    entries.count() as f64
}

/// Returns whether two readings of a changing value are close enough.
#[track_caller]
fn expect_near(found: f64, expected: f64, tolerance: f64, what: &str) {
    let distance = (found - expected).abs();
    assert!(
        distance <= tolerance * expected.abs(),
        "{what}: {found}, the kernel says {expected}"
    );
}

#[tokio::test]
async fn the_process_metrics_are_what_the_kernel_says() {
    let server = Server::start();
    server.create("Ada").await;
    // The first scrape starts threads, whose stacks count as virtual memory.
    server.scrape().await;
    let virtual_before = status_line(&server, "VmSize:") * 1024.0;
    let scrape = server.scrape().await;
    let value = |name: &str| scrape.value(name, &[]);

    expect_near(
        value("process_resident_memory_bytes"),
        status_line(&server, "VmRSS:") * 1024.0,
        0.1,
        "resident",
    );
    // A thread that starts in between adds the memory that its allocator reserves.
    let virtual_after = status_line(&server, "VmSize:") * 1024.0;
    let found = value("process_virtual_memory_bytes");
    expect_near(
        found,
        found.clamp(
            virtual_before.min(virtual_after),
            virtual_before.max(virtual_after),
        ),
        0.1,
        "virtual",
    );
    expect_near(
        value("process_threads"),
        entries(&server, "task"),
        0.2,
        "threads",
    );
    expect_near(
        value("process_open_fds"),
        entries(&server, "fd"),
        0.2,
        "open files",
    );
    assert!(value("process_heap_bytes") > 0.0);

    let limits = proc_file(&server, "limits");
    let soft = |name: &str| {
        let line = limits
            .lines()
            .find(|line| line.starts_with(name))
            .expect("a limit");
        line[name.len()..]
            .split_ascii_whitespace()
            .next()
            .and_then(|limit| limit.parse::<f64>().ok())
    };
    expect_near(
        value("process_max_fds"),
        soft("Max open files").unwrap(),
        0.0,
        "the limit of open files",
    );
    match soft("Max address space") {
        Some(limit) => expect_near(
            value("process_virtual_memory_max_bytes"),
            limit,
            0.0,
            "the limit of memory",
        ),
        None => assert!(
            value("process_virtual_memory_max_bytes") >= 18e18,
            "no limit"
        ),
    }

    let age = now() - value("process_start_time_seconds");
    assert!((0.0..120.0).contains(&age), "started {age} s ago");
}

fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs_f64()
}

#[tokio::test]
async fn the_start_is_right_where_proc_stat_has_the_boot_of_a_container() {
    let test = "the_start_is_right_where_proc_stat_has_the_boot_of_a_container";
    let Some(unshare) = tools::mount_namespaces(test) else {
        return;
    };
    let stat = std::fs::read_to_string("/proc/stat").expect("Linux");
    let mut of_container = tempfile::NamedTempFile::new().expect("a temporary file");
    for line in stat.lines() {
        match line.strip_prefix("btime ") {
            // Simulates a container that started a minute ago on a machine that has run longer.
            Some(_) => writeln!(of_container, "btime {:.0}", now() - 60.0),
            None => writeln!(of_container, "{line}"),
        }
        .expect("memory");
    }
    let server = Server::start_behind(&unshare, of_container.path(), "/proc/stat");
    let started = server
        .scrape()
        .await
        .value("process_start_time_seconds", &[]);
    let age = now() - started;
    assert!((0.0..50.0).contains(&age), "started {age} s ago");
}

#[tokio::test]
async fn processor_time_is_counted_in_fractions_of_a_second() {
    let server = Server::start();
    let cpu = async || {
        server
            .scrape()
            .await
            .value("process_cpu_seconds_total", &[])
    };
    let before = cpu().await;
    assert!((0.0..30.0).contains(&before), "{before} s");
    wait::until(
        "a rise by less than a second",
        Duration::from_secs(30),
        async || {
            let after = cpu().await;
            if after > before && after < before + 1.0 {
                Ok(())
            } else {
                Err(format!("{before} -> {after}"))
            }
        },
    )
    .await;
}

#[tokio::test]
async fn the_runtime_shows_each_worker() {
    let server = Server::start_with(&["--workers", "2"]);
    let busy = "runtime_worker_busy_seconds_total";
    let before = server.scrape().await;
    expect_count(before.value("runtime_workers", &[]), 2, "workers");
    let after = wait::until(
        "busy workers and a measured lag",
        Duration::from_secs(30),
        async || {
            server.get("/data").await;
            let scrape = server.scrape().await;
            let risen = scrape.sum_rise(&before, busy, &[]) > 0.0
                && scrape.rise(&before, "runtime_event_loop_lag_seconds_count", &[]) > 0.0
                && scrape.series(busy).len() == 2;
            if risen {
                Ok(scrape)
            } else {
                Err(format!("{:?}", scrape.series(busy)))
            }
        },
    )
    .await;
    assert_eq!(after.series("runtime_worker_tasks").len(), 2);
}

#[tokio::test]
async fn the_allocator_tells_what_it_has_and_what_is_used() {
    let server = Server::start();
    let scrape = server.scrape().await;
    let value = |name: &str| scrape.value(name, &[]);
    let allocated = value("allocator_allocated_bytes");
    let active = value("allocator_active_bytes");
    let resident = value("allocator_resident_bytes");
    assert!(
        0.0 < allocated && allocated <= active && active <= resident,
        "{allocated} {active} {resident}"
    );
}

#[tokio::test]
async fn the_build_tells_its_version() {
    let server = Server::start();
    let scrape = server.scrape().await;
    let series = scrape.series("vitals_build_info");
    let [(labels, value)] = series.as_slice() else {
        panic!("{series:?}")
    };
    expect_count(*value, 1, "the value");
    assert_eq!(labels["version"], env!("CARGO_PKG_VERSION"));
    assert!(labels.values().all(|value| !value.is_empty()), "{labels:?}");
}
