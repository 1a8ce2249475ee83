use std::{sync::atomic::AtomicBool, thread};

use super::*;

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

/// A moment that long ago. Waits until the clock, which may have started with this test, has run for that long.
fn ago(time: Duration) -> Moment {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap();
    loop {
        if let Some(earlier) = clock::now().nanoseconds().checked_sub(nanoseconds) {
            return Moment::from_nanoseconds(earlier);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn only(requests: &InFlightRequests) -> InFlightRequest {
    let report = requests.report(10, |_| true);
    assert_eq!((report.requests.len(), report.total), (1, 1));
    report.requests.into_iter().next().unwrap()
}

#[test]
fn a_request_is_listed_from_its_beginning_to_its_end() {
    let requests = InFlightRequests::default();
    let worker = requests.worker(Some(3));
    let slot = worker.take().unwrap();
    assert_eq!(requests.report(10, |_| true).total, 0);
    slot.set_method("OPTIONS");
    slot.begin(0, clock::now(), TRACE);
    assert_eq!(only(&requests).endpoint, None);
    slot.set_endpoint(name_numbers::number_of("/items/{id}"));
    let request = only(&requests);
    assert_eq!((request.method, request.worker), ("OPTIONS", Some(3)));
    assert_eq!(request.endpoint.as_deref(), Some("/items/{id}"));
    assert_eq!(request.trace_id, Some(TRACE));
    assert_eq!(request.activity, Activity::EventLoop);
    slot.end();
    assert_eq!(requests.report(10, |_| true).total, 0);
}

#[test]
fn a_used_slot_shows_nothing_of_its_last_request() {
    let requests = InFlightRequests::default();
    let worker = requests.worker(None);
    let late = worker.take().unwrap();
    late.set_method("GET");
    late.begin(name_numbers::number_of("/last"), clock::now(), TRACE);
    late.set_sent_bytes(7);
    late.set_query(NonZeroU32::new(5), clock::now(), false);
    late.end();
    worker.put_back(&late);
    let slot = worker.take().unwrap();
    slot.set_method("BREW");
    slot.begin(0, clock::now(), 0);
    slot.set_state(RequestState::Awaiting, clock::now());
    // A query of the last request goes on.
    late.set_query(NonZeroU32::new(5), clock::now(), false);
    let request = only(&requests);
    assert_eq!((request.method, request.sent_bytes), ("other", 0));
    assert_eq!((request.endpoint, request.trace_id), (None, None));
    assert_eq!(request.activity, Activity::Awaiting);
    assert_eq!(request.statement, None);
    // The statement of the last request is not that of a query whose statement is not known.
    slot.set_query(None, clock::now(), false);
    let request = only(&requests);
    assert_eq!(request.activity, Activity::Query);
    assert_eq!(request.statement, None);
}

#[test]
fn another_handle_is_of_the_same_request() {
    let requests = InFlightRequests::default();
    let worker = requests.worker(None);
    let late = worker.take().unwrap();
    late.begin(0, clock::now(), 0);
    let slot = late.another();
    slot.set_state(RequestState::Awaiting, clock::now());
    late.set_work(WorkKind::BlockingThread, clock::now(), false);
    assert_eq!(only(&requests).activity, Activity::BlockingThread);
    slot.end();
    assert_eq!(requests.report(10, |_| true).total, 0);
    slot.begin(0, clock::now(), 0);
    slot.set_state(RequestState::Awaiting, clock::now());
    late.set_work(WorkKind::BlockingThread, clock::now(), false);
    assert_eq!(only(&requests).activity, Activity::Awaiting);
}

#[test]
fn work_is_shown_unless_the_loop_is_busy_with_something_else() {
    use RequestState::{Awaiting, Polled, Sending, Streaming};
    let requests = InFlightRequests::default();
    let worker = requests.worker(None);
    let slot = worker.take().unwrap();
    let now = clock::now();
    slot.begin(0, now, 0);
    for (state, work, on_worker, expected, why) in [
        (
            Polled,
            WorkKind::None,
            false,
            Activity::EventLoop,
            "no work",
        ),
        (
            Polled,
            WorkKind::Query,
            true,
            Activity::Query,
            "a query on the loop",
        ),
        (
            Polled,
            WorkKind::Query,
            false,
            Activity::EventLoop,
            "a query elsewhere",
        ),
        (
            Awaiting,
            WorkKind::Query,
            false,
            Activity::Query,
            "it awaits the query",
        ),
        (
            Awaiting,
            WorkKind::PoolWait,
            false,
            Activity::PoolWait,
            "it awaits a connection",
        ),
        (
            Awaiting,
            WorkKind::BlockingQueue,
            false,
            Activity::BlockingQueue,
            "no thread is free",
        ),
        (
            Awaiting,
            WorkKind::BlockingThread,
            false,
            Activity::BlockingThread,
            "it blocks",
        ),
        (
            Awaiting,
            WorkKind::Transaction,
            false,
            Activity::Transaction,
            "between queries",
        ),
        (
            Awaiting,
            WorkKind::None,
            false,
            Activity::Awaiting,
            "a timer, for instance",
        ),
        (
            Sending,
            WorkKind::None,
            false,
            Activity::Sending,
            "the client is slow",
        ),
        (
            Streaming,
            WorkKind::None,
            false,
            Activity::Streaming,
            "a stream",
        ),
    ] {
        slot.set_state(state, now);
        slot.set_work(work, now, on_worker);
        let request = only(&requests);
        assert_eq!(request.activity, expected, "{why}");
        assert_eq!(request.on_event_loop.is_some(), state == Polled, "{why}");
    }
    slot.set_query(NonZeroU32::new(9), now, false);
    slot.set_state(Awaiting, now);
    assert_eq!(only(&requests).statement, NonZeroU32::new(9));
    slot.set_work(WorkKind::None, now, false);
    assert_eq!(only(&requests).statement, None);
}

#[test]
fn the_oldest_requests_come_first_and_all_are_counted() {
    /// Milliseconds between the starts of two requests.
    const STEP: u32 = 200;
    let requests = InFlightRequests::default();
    let workers = [requests.worker(Some(0)), requests.worker(Some(1))];
    // The only wait for the clock: the requests below begin relative to the same moment.
    ago(Duration::from_millis(u64::from(20 * STEP)));
    for steps in 0..20_u32 {
        let slot = workers[usize::from(steps % 2 == 1)].take().unwrap();
        let age = Duration::from_millis(u64::from(STEP * steps));
        slot.begin(0, ago(age), 0);
    }
    workers[0].count_unlisted();
    let report = requests.report(3, |_| true);
    let ages: Vec<_> = (report.requests.iter())
        .map(|request| request.age.as_millis() / u128::from(STEP))
        .collect();
    assert_eq!((ages, report.total), (vec![19, 18, 17], 21));
    let [first, second] = workers;
    drop((first, second));
    assert_eq!(
        requests.report(3, |_| true).total,
        1,
        "the workers have ended"
    );
}

#[test]
fn a_stall_is_returned_once_while_it_lasts() {
    let requests = InFlightRequests::default();
    let worker = requests.worker(None);
    let slot = worker.take().unwrap();
    let threshold = Duration::from_millis(100);
    slot.begin(0, ago(Duration::from_millis(99)), 0);
    assert!(requests.new_stalls(Duration::from_secs(3600)).is_empty());
    let since = ago(Duration::from_millis(300));
    slot.set_state(RequestState::Polled, since);
    let stalls = requests.new_stalls(threshold);
    assert_eq!(stalls.len(), 1);
    assert!(stalls[0].on_event_loop >= Some(Duration::from_millis(299)));
    assert!(requests.new_stalls(threshold).is_empty());
    assert!(
        !slot.report_stall(since),
        "the worker does not report it again"
    );
    slot.set_state(RequestState::Awaiting, since);
    assert!(requests.new_stalls(threshold).is_empty());
    let next = ago(Duration::from_millis(200));
    slot.set_state(RequestState::Polled, next);
    assert!(slot.report_stall(next), "the next poll is another stall");
}

#[test]
fn slots_are_bounded() {
    let requests = InFlightRequests::default();
    let worker = requests.worker(None);
    let slots: Vec<_> = (0..MOST_SLOTS).map_while(|_| worker.take()).collect();
    assert_eq!(slots.len(), MOST_SLOTS);
    assert!(worker.take().is_none());
    drop(worker);
    assert!(requests.worker(None).take().is_some());
}

#[test]
fn a_reader_never_mixes_two_requests() {
    let requests = InFlightRequests::default();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let worker = requests.worker(None);
            let slot = worker.take().unwrap();
            let names = ["/a", "/b"].map(name_numbers::number_of);
            let mut turn = 0;
            while !is_over.load(Relaxed) {
                // Each request has the endpoint that belongs to its trace.
                slot.begin(names[turn], clock::now(), turn as u128 + 1);
                slot.set_sent_bytes(turn as u64 + 1);
                slot.end();
                turn = 1 - turn;
            }
        });
        let mut seen = 0;
        while seen < 1000 {
            for request in requests.report(10, |_| true).requests {
                let trace = request.trace_id.unwrap();
                let expected = ["/a", "/b"][usize::try_from(trace).unwrap() - 1];
                assert_eq!(request.endpoint.as_deref(), Some(expected));
                // A request begins without bytes.
                assert!([0, trace].contains(&u128::from(request.sent_bytes)));
                seen += 1;
            }
        }
        is_over.store(true, Relaxed);
    });
}
