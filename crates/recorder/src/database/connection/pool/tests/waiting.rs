//! Waits for a connection: how each ends, and the bound of the queue.

use super::*;

#[test]
fn a_caller_that_blocks_for_a_connection_is_a_waiter_until_it_has_one() {
    let pooled = pooled(of_size(1));
    let held = pooled.pool.get().unwrap();
    let before = pooled.waited_seconds();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| pooled.pool.get().map(drop));
        until("it waits", || pooled.waiters() == 1);
        std::thread::sleep(Duration::from_millis(20));
        drop(held);
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (0, 2, 0)
    );
    assert!(pooled.waited_seconds() - before >= 0.02);
}

#[test]
fn a_blocking_wait_that_times_out_is_one_timeout_and_one_wait() {
    let pooled = pooled(impatient(1));
    let _held = pooled.pool.get().unwrap();
    assert_eq!(
        pooled.pool.get().map(drop).unwrap_err(),
        CheckoutError::Timeout
    );
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (0, 2, 1)
    );
    assert!(pooled.waited_seconds() >= 0.05);
}

#[actix_web::test]
async fn work_that_gets_no_connection_in_time_is_rejected_and_counted_once() {
    let pooled = pooled(impatient(1));
    let (gate, work) = PausedWork::new();
    let holder = actix_web::rt::spawn({
        let pool = pooled.pool.clone();
        async move { pool.run(work).await }
    });
    gate.begun.await.unwrap();
    let refused = pooled
        .pool
        .run(|connection| insert(connection, "a"))
        .await
        .unwrap_err();
    assert!(matches!(refused, RunError::Timeout));
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (0, 2, 1)
    );
    assert_eq!(pooled.rejected(), [0, 1, 0]);
    gate.go_on.send(()).unwrap();
    assert_eq!(holder.await.unwrap().unwrap(), 7);
    assert_eq!(pooled.fixture.queries(), []);
}

#[actix_web::test]
async fn work_waits_for_connections_that_blocking_callers_hold() {
    let pooled = pooled(impatient(1));
    let held = pooled.pool.get().unwrap();
    let refused = pooled
        .pool
        .run(|connection| insert(connection, "a"))
        .await
        .unwrap_err();
    assert!(matches!(refused, RunError::Timeout));
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (0, 2, 1)
    );
    drop(held);
    pooled
        .pool
        .run(|connection| insert(connection, "a"))
        .await
        .unwrap();
}

#[actix_web::test]
async fn a_wait_in_the_queue_is_measured_once_from_its_start() {
    let pooled = pooled(of_size(1));
    let (gate, work) = PausedWork::new();
    let pool = pooled.pool.clone();
    let holder = actix_web::rt::spawn(async move { pool.run(work).await });
    gate.begun.await.unwrap();
    let before = pooled.waited_seconds();
    let pool = pooled.pool.clone();
    let waiter =
        actix_web::rt::spawn(async move { pool.run(|connection| insert(connection, "a")).await });
    soon("it waits", || pooled.waiters() == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(pooled.waits(), 1);
    gate.go_on.send(()).unwrap();
    holder.await.unwrap().unwrap();
    waiter.await.unwrap().unwrap();
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (0, 2, 0)
    );
    assert!(pooled.waited_seconds() - before >= 0.02);
}

#[actix_web::test]
async fn a_full_queue_rejects_callers_at_once() {
    let pooled = pooled_with(Fixture::new(), 2, of_size(1));
    let (gate, work) = PausedWork::new();
    let spawn = |work: Work| {
        let pool = pooled.pool.clone();
        actix_web::rt::spawn(async move { pool.run(work).await })
    };
    let holder = spawn(Box::new(work));
    gate.begun.await.unwrap();
    let waiters = [spawn(Box::new(|_| Ok(1))), spawn(Box::new(|_| Ok(2)))];
    soon("both wait", || pooled.waiters() == 2).await;
    let started = Instant::now();
    let refused = pooled.pool.run(|_| Ok::<_, Error>(3)).await.unwrap_err();
    assert!(matches!(refused, RunError::Saturated));
    assert!(started.elapsed() < Duration::from_secs(4), "at once");
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (2, 1, 0)
    );
    assert_eq!(pooled.rejected(), [1, 0, 0]);
    gate.go_on.send(()).unwrap();
    assert_eq!(holder.await.unwrap().unwrap(), 7);
    for (waiter, answer) in waiters.into_iter().zip([1, 2]) {
        assert_eq!(waiter.await.unwrap().unwrap(), answer);
    }
    pooled.pool.run(|_| Ok::<_, Error>(3)).await.unwrap();
    assert_eq!((pooled.waiters(), pooled.waits()), (0, 4));
}

#[actix_web::test]
async fn a_caller_that_leaves_the_queue_is_no_longer_a_waiter() {
    let pooled = pooled(of_size(1));
    let (gate, work) = PausedWork::new();
    let pool = pooled.pool.clone();
    let holder = actix_web::rt::spawn(async move { pool.run(work).await });
    gate.begun.await.unwrap();
    {
        let ran = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&ran);
        let mut leaver = Box::pin(pooled.pool.run(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Error>(())
        }));
        tokio::select! {
            biased;
            _ = &mut leaver => panic!("there is no connection"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(pooled.waiters(), 1);
        drop(leaver);
        assert_eq!(pooled.waiters(), 0);
        gate.go_on.send(()).unwrap();
        holder.await.unwrap().unwrap();
        pooled.pool.run(|_| Ok::<_, Error>(())).await.unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 0);
    }
    assert_eq!((pooled.waits(), pooled.timeouts()), (3, 0), "its wait, too");
    assert_eq!(pooled.rejected(), [0, 0, 1]);
}

#[actix_web::test]
async fn a_caller_that_leaves_before_its_work_starts_is_no_longer_a_waiter() {
    let pooled = pooled(of_size(1));
    let held = pooled.pool.get().unwrap();
    let (gate, work) = PausedWork::new();
    let mut leaver = Box::pin(pooled.pool.run(work));
    tokio::select! {
        biased;
        _ = &mut leaver => panic!("there is no connection"),
        () = tokio::time::sleep(Duration::from_millis(5)) => {}
    }
    assert_eq!(pooled.waiters(), 1);
    drop(leaver);
    assert_eq!(pooled.waiters(), 0);
    drop(held);
    assert!(gate.begun.await.is_err(), "the work did not begin");
    pooled.pool.run(|_| Ok::<_, Error>(())).await.unwrap();
    assert_eq!((pooled.waits(), pooled.timeouts()), (3, 0), "its wait, too");
    assert_eq!(pooled.rejected(), [0, 0, 1]);
}

#[actix_web::test]
async fn many_callers_of_a_small_pool_all_get_a_connection() {
    let pooled = pooled(of_size(2));
    let callers: Vec<_> = (0..100)
        .map(|number: i32| {
            let pool = pooled.pool.clone();
            actix_web::rt::spawn(async move {
                pool.run(move |connection| {
                    diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("1"))
                        .get_result::<i32>(connection)
                        .map(|one| one + number)
                })
                .await
            })
        })
        .collect();
    for (number, caller) in (0..).zip(callers) {
        assert_eq!(caller.await.unwrap().unwrap(), number + 1);
    }
    assert_eq!(pooled.fixture.queries(), [("select".to_owned(), 100)]);
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.holds()),
        (0, 100, 100)
    );
}

#[actix_web::test]
async fn a_wait_in_the_queue_that_times_out_belongs_to_its_request() {
    let pooled = pooled(impatient(1));
    let _held = pooled.pool.get().unwrap();
    let mut context = None;
    let mut run = std::pin::pin!(pooled.pool.run(|connection| insert(connection, "a")));
    let ran = std::future::poll_fn(|cx| context::within(&mut context, || run.as_mut().poll(cx)));
    assert!(matches!(ran.await, Err(RunError::Timeout)));
    let context = context.unwrap();
    assert_eq!(context.queries(), 0);
    assert!(context.pool_wait() >= Duration::from_millis(500));
}

/// Starts callers one after the other, each of which waits and then notes its number and its thread.
async fn start_waiting(pooled: &Pooled, count: i64, noted: &Noted) -> Vec<Task> {
    let mut callers = Vec::new();
    for number in 0..count {
        let (pool, noted) = (pooled.pool.clone(), Arc::clone(noted));
        callers.push(actix_web::rt::spawn(async move {
            let note = move |_: &mut SqliteConnection| {
                let note = (number, std::thread::current().id());
                noted.lock().unwrap().push(note);
                Ok::<_, Error>(())
            };
            pool.run(note).await
        }));
        soon("it waits", || pooled.waiters() == number + 1).await;
    }
    callers
}

type Noted = Arc<std::sync::Mutex<Vec<(i64, std::thread::ThreadId)>>>;
type Task = tokio::task::JoinHandle<Result<(), RunError<Error>>>;

#[actix_web::test]
async fn a_thread_goes_on_with_the_work_of_waiting_callers_in_their_order() {
    let pooled = pooled(of_size(1));
    let (gate, work) = PausedWork::new();
    let (sender, thread) = mpsc::channel();
    let pool = pooled.pool.clone();
    let holder = actix_web::rt::spawn(async move {
        let work = move |connection: &mut SqliteConnection| {
            sender.send(std::thread::current().id()).unwrap();
            work(connection)
        };
        pool.run(work).await
    });
    gate.begun.await.unwrap();
    let noted = Noted::default();
    let callers = start_waiting(&pooled, 5, &noted).await;
    gate.go_on.send(()).unwrap();
    holder.await.unwrap().unwrap();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    let thread = thread.recv().unwrap();
    let expected: Vec<_> = (0..5).map(|number| (number, thread)).collect();
    assert_eq!(*noted.lock().unwrap(), expected);
}

#[actix_web::test]
async fn work_that_panics_passes_its_turn_on() {
    let pooled = pooled(of_size(1));
    let (gate, work) = PausedWork::new();
    let pool = pooled.pool.clone();
    let panics = actix_web::rt::spawn(async move {
        let work = move |connection: &mut SqliteConnection| -> QueryResult<()> {
            drop(work(connection));
            panic!("on purpose")
        };
        pool.run(work).await
    });
    gate.begun.await.unwrap();
    let noted = Noted::default();
    let callers = start_waiting(&pooled, 2, &noted).await;
    gate.go_on.send(()).unwrap();
    assert!(matches!(panics.await.unwrap(), Err(RunError::Panicked)));
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(pooled.waiters(), 0);
}

/// A runtime may end while its blocking threads have work that has not begun.
#[test]
fn the_turn_of_a_caller_whose_runtime_ends_is_passed_on() {
    let pooled = pooled(of_size(1));
    let ending = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let (go_on, wait) = mpsc::channel::<()>();
    ending.spawn_blocking(move || wait.recv());
    let pool = pooled.pool.clone();
    let never = ending.spawn(async move { pool.run(|_| Ok::<_, Error>(1)).await });
    ending.block_on(async { soon("it has its turn", || pooled.waiters() == 1).await });

    let other = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let pool = pooled.pool.clone();
    let waits = other.spawn(async move { pool.run(|_| Ok::<_, Error>(2)).await });
    until("it waits", || pooled.waiters() == 2);
    ending.shutdown_background();
    // The thread drops what it has not begun.
    go_on.send(()).unwrap();
    assert_eq!(other.block_on(waits).unwrap().unwrap(), 2);
    assert!(never.is_finished());
}

#[actix_web::test]
async fn the_timeline_of_a_caller_that_waits_has_its_wait_and_no_queue_for_a_thread() {
    use crate::context::EventKind;
    let pooled = pooled(of_size(1));
    let (gate, work) = PausedWork::new();
    let pool = pooled.pool.clone();
    let holder = actix_web::rt::spawn(async move { pool.run(work).await });
    gate.begun.await.unwrap();
    let mut context = None;
    let mut run = Box::pin(pooled.pool.run(|connection| insert(connection, "a")));
    let polled = std::future::poll_fn(|cx| {
        std::task::Poll::Ready(context::within(&mut context, || run.as_mut().poll(cx)))
    });
    assert!(polled.await.is_pending());
    gate.go_on.send(()).unwrap();
    holder.await.unwrap().unwrap();
    let ran = std::future::poll_fn(|cx| context::within(&mut context, || run.as_mut().poll(cx)));
    ran.await.unwrap();
    let events = context.unwrap();
    let kinds: Vec<_> = events.events().map(|event| event.kind).collect();
    assert!(kinds.contains(&EventKind::PoolWait), "{kinds:?}");
    assert!(kinds.contains(&EventKind::BlockingThread), "{kinds:?}");
    assert!(!kinds.contains(&EventKind::BlockingQueue), "{kinds:?}");
}
