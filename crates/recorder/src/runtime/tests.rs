//! Registration, busy time, tasks and lag of workers.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};

use super::lag::{MOST_OBSERVED_TICKS, TICK, end_of_rest, observe_rest, observe_ticks};
use super::*;
use crate::reading::samples;
use tokio::time::Instant;
use vitals_registry::Registry;

fn runtime() -> Runtime {
    let mut builder = Registry::builder(|| Duration::from_secs(1));
    let runtime = Runtime::declare(&mut builder, &[0.001, 0.1, 1.0]);
    builder.build().unwrap().register(runtime.clone()).unwrap();
    runtime
}

fn workers(runtime: &Runtime) -> f64 {
    samples(runtime)["runtime_workers"]
}

/// The labels of a family's samples, as the text format writes them, and their sum.
fn labelled(runtime: &Runtime, name: &str) -> (Vec<String>, f64) {
    let read = samples(runtime);
    let of_family = read.iter().filter_map(|(sample, value)| {
        let labels = sample.strip_prefix(name)?.strip_prefix('{')?;
        Some((labels.strip_suffix('}')?.to_owned(), *value))
    });
    let (labels, values): (Vec<_>, Vec<f64>) = of_family.unzip();
    (labels, values.into_iter().sum())
}

fn tasks(runtime: &Runtime) -> f64 {
    labelled(runtime, "runtime_worker_tasks").1
}

fn busy_seconds(runtime: &Runtime) -> f64 {
    labelled(runtime, "runtime_worker_busy_seconds_total").1
}

fn lags(runtime: &Runtime) -> vitals_registry::HistogramSnapshot {
    runtime.inner.lag_seconds.get().snapshot()
}

async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The sum of the lags of a loop that was blocked for a time between these two. In one second that is 0.9 + 0.8 + … + 0.1, each
/// up to one tick more.
fn lags_of(least: Duration, most: Duration) -> std::ops::Range<f64> {
    let [least, most] = [least, most].map(|time| time.as_secs_f64());
    5.0 * least * least - least..5.0 * most * most + 2.0 * most
}

fn spin(for_how_long: Duration) {
    let until = std::time::Instant::now() + for_how_long;
    while std::time::Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[actix_web::test]
async fn a_worker_is_registered_once_and_until_its_loop_ends() {
    let runtime = runtime();
    let arbiters = [actix_rt::Arbiter::new(), actix_rt::Arbiter::new()];
    for arbiter in &arbiters {
        for _ in 0..2 {
            let runtime = runtime.clone();
            arbiter.spawn_fn(move || runtime.register_worker());
        }
    }
    soon("both are registered", || workers(&runtime) > 1.5).await;
    let labels = |runtime: &Runtime| labelled(runtime, "runtime_worker_tasks").0;
    assert_eq!(labels(&runtime), ["worker=\"0\"", "worker=\"1\""]);
    for arbiter in arbiters {
        arbiter.stop();
    }
    soon("both are gone", || workers(&runtime) < 0.5).await;
    let arbiter = actix_rt::Arbiter::new();
    let clone = runtime.clone();
    arbiter.spawn_fn(move || clone.register_worker());
    soon("another has the first number", || {
        labels(&runtime) == ["worker=\"0\""]
    })
    .await;
    arbiter.stop();
}

#[test]
fn outside_of_a_worker_nothing_is_registered() {
    let runtime = runtime();
    runtime.register_worker();
    assert!(workers(&runtime) < 0.5);
    drop(runtime.connection());
}

#[actix_web::test]
async fn the_time_of_a_workers_tasks_is_busy_time() {
    let runtime = runtime();
    let arbiter = actix_rt::Arbiter::new();
    let clone = runtime.clone();
    arbiter.spawn_fn(move || clone.register_worker());
    soon("it is registered", || workers(&runtime) > 0.5).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let idle = busy_seconds(&runtime);
    assert!(idle < 0.1, "{idle}");
    arbiter.spawn_fn(|| spin(Duration::from_millis(300)));
    soon("it was busy", || busy_seconds(&runtime) - idle >= 0.3).await;
    arbiter.stop();
}

#[actix_web::test]
async fn a_blocked_loop_observes_each_tick_of_that_time() {
    let runtime = runtime();
    runtime.register_worker();
    soon("a tick was run", || lags(&runtime).count > 0).await;
    let before = lags(&runtime);
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let least = began.elapsed();
    soon("the ticks were run", || {
        lags(&runtime).count >= before.count + 9
    })
    .await;
    let blocked = lags(&runtime).delta(&before);
    let expected = lags_of(least, began.elapsed());
    assert!(expected.contains(&blocked.sum), "{blocked:?}");
}

#[actix_web::test]
async fn a_loop_that_has_nothing_to_do_rests_until_a_request_begins() {
    let runtime = runtime();
    runtime.register_worker();
    let deadline = Instant::now() + Duration::from_secs(60);
    // Asked seldom, or the loop would have something to do.
    while !lag::rests() {
        assert!(Instant::now() < deadline, "it never rests");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let before = lags(&runtime);
    lag::rouse();
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let least = began.elapsed();
    soon("the ticks were run", || {
        lags(&runtime).count >= before.count + 10
    })
    .await;
    let blocked = lags(&runtime).delta(&before);
    let expected = lags_of(least, began.elapsed());
    assert!(expected.contains(&blocked.sum), "{blocked:?}");
    assert!(!lag::rests());
}

#[test]
fn a_rest_ends_at_a_whole_second_of_the_probe_within_ten_ticks() {
    let began = Instant::now();
    for (ticks, expected) in [(1, 10), (9, 10), (10, 10), (11, 20), (47, 50)] {
        let end = end_of_rest(began, began + TICK * ticks);
        assert_eq!(end - began, TICK * expected, "{ticks}");
    }
    // After a stall, ticks are due at other moments.
    let due = began + TICK * 11 / 2;
    assert_eq!(end_of_rest(began, due) - due, TICK * 5);
}

#[test]
fn the_ticks_of_a_rest_have_no_lag_unless_other_code_ran() {
    let runtime = runtime();
    let lag = runtime.inner.lag_seconds.get();
    let now = Instant::now();
    let milliseconds = Duration::from_millis;
    for (until, ran, ticks, sum) in [
        (milliseconds(900), milliseconds(0), 9, 0.0),
        (milliseconds(900), milliseconds(99), 9, 0.0),
        (milliseconds(250), milliseconds(0), 3, 0.0),
        (milliseconds(0), milliseconds(500), 0, 0.0),
        // 0.45, 0.35, 0.25, 0.15 and 0.05 s.
        (milliseconds(900), milliseconds(500), 9, 1.25),
    ] {
        let before = lags(&runtime);
        let due = observe_rest(&lag, now, now + until, ran);
        let observed = lags(&runtime).delta(&before);
        assert_eq!(due, now + TICK * ticks);
        assert_eq!(observed.count, u64::from(ticks));
        assert!(
            (observed.sum - sum).abs() < 1e-9,
            "{until:?} {ran:?}: {observed:?}"
        );
    }
}

#[actix_web::test]
async fn lag_is_never_negative_and_the_ticks_of_a_stall_are_bounded() {
    let runtime = runtime();
    let lag = runtime.inner.lag_seconds.get();
    let now = Instant::now();
    assert_eq!(observe_ticks(&lag, now, now), now + TICK);
    assert_eq!(observe_ticks(&lag, now + TICK / 2, now), now + TICK * 3 / 2);
    assert_eq!((lags(&runtime).count, lags(&runtime).zero_count), (2, 2));
    let later = now + TICK * (MOST_OBSERVED_TICKS + 5);
    assert_eq!(observe_ticks(&lag, now, later), later + TICK);
    assert_eq!(lags(&runtime).count, 2 + u64::from(MOST_OBSERVED_TICKS));
}

#[actix_web::test]
async fn connections_count_as_tasks_of_their_worker() {
    let runtime = runtime();
    let registering = runtime.clone();
    let connecting = runtime.clone();
    let server = HttpServer::new(move || {
        registering.register_worker();
        App::new().route("/", web::get().to(HttpResponse::Ok))
    })
    .on_connect(move |_, extensions| {
        extensions.insert(Arc::new(connecting.connection()));
    })
    .workers(2)
    .disable_signals()
    .bind(("127.0.0.1", 0))
    .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    let running = actix_web::rt::spawn(server);
    soon("both workers are registered", || workers(&runtime) > 1.5).await;
    assert!(tasks(&runtime) < 0.5, "{}", tasks(&runtime));
    let connect = || {
        tokio::task::spawn_blocking(move || {
            use std::io::{Read as _, Write as _};
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                .unwrap();
            stream.read_exact(&mut [0; 12]).unwrap();
            stream
        })
    };
    let streams = [
        connect().await.unwrap(),
        connect().await.unwrap(),
        connect().await.unwrap(),
    ];
    soon("three connections", || (tasks(&runtime) - 3.0).abs() < 0.5).await;
    drop(streams);
    soon("no connections", || tasks(&runtime) < 0.5).await;
    handle.stop(true).await;
    running.await.unwrap().unwrap();
    soon("no workers", || workers(&runtime) < 0.5).await;
}

#[test]
fn without_a_system_the_runtime_counts_the_tasks() {
    let runtime = runtime();
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let done = Arc::new(AtomicBool::new(false));
    tokio.block_on(async {
        runtime.register_worker();
        assert!(tasks(&runtime) < 0.5);
        let flag = Arc::clone(&done);
        let task = tokio::spawn(async move {
            while !flag.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        });
        assert!((tasks(&runtime) - 1.0).abs() < 0.5);
        done.store(true, Ordering::Relaxed);
        task.await.unwrap();
        soon("the task is gone", || tasks(&runtime) < 0.5).await;
    });
    drop(tokio);
    assert!(workers(&runtime) < 0.5);
}

#[test]
fn the_build_is_exposed() {
    let (labels, value) = labelled(&runtime(), "vitals_build_info");
    assert!((value - 1.0).abs() < f64::EPSILON);
    let [labels] = &labels[..] else {
        panic!("{labels:?}");
    };
    for expected in [
        format!("version=\"{}\"", env!("CARGO_PKG_VERSION")),
        "rustc=\"1.".to_owned(),
    ] {
        assert!(labels.contains(&expected), "{labels}");
    }
    assert!(!labels.contains("=\"\""), "{labels}");
    let [_, revision, ..] = BUILT;
    assert!(revision == "unknown" || revision.len() == 12, "{revision}");
}

#[actix_web::test]
async fn a_blocked_loop_is_the_longest_stall_while_others_run() {
    let runtime = runtime();
    assert_eq!(runtime.longest_stall(), None);
    let arbiters = [actix_rt::Arbiter::new(), actix_rt::Arbiter::new()];
    for arbiter in &arbiters {
        let runtime = runtime.clone();
        arbiter.spawn_fn(move || runtime.register_worker());
    }
    soon("both workers", || {
        workers(&runtime).to_bits() == 2_f64.to_bits()
    })
    .await;
    let is_stuck = || runtime.longest_stall() > Some(Duration::from_millis(400));
    soon("both run", || !is_stuck()).await;

    let (unblock, unblocked) = std::sync::mpsc::channel::<()>();
    arbiters[0].spawn_fn(move || unblocked.recv().unwrap());
    soon("one is stuck", is_stuck).await;
    unblock.send(()).unwrap();
    soon("both run again", || !is_stuck()).await;

    for arbiter in arbiters {
        arbiter.stop();
        arbiter.join().unwrap();
    }
    assert_eq!(runtime.longest_stall(), None);
}
