use std::time::Duration;

use crate::{
    context::{self, Event, EventKind},
    http::insight::kept::KeptRequests,
    ops_endpoints::OpsEndpoints,
};

use super::*;

const MILLISECOND: u64 = 1_000_000;

/// The moment this many milliseconds after the beginning of the request.
fn at(milliseconds: u64) -> Moment {
    Moment::from_nanoseconds((1_000 + milliseconds) * MILLISECOND)
}

/// A request, of which each event is given by its kind, beginning and end in milliseconds.
struct Script {
    polls: Vec<(u64, u64, RequestState)>,
    head: Option<u64>,
    end: u64,
    events: Vec<(EventKind, u64, u64)>,
}

impl Script {
    fn keep(&self) -> KeptRequest {
        self.keep_with(|_| {})
    }

    fn keep_with(&self, work: impl FnOnce(&Arc<RequestContext>)) -> KeptRequest {
        let mut polls = Polls::new(at(0));
        let mut loop_time = Duration::ZERO;
        for &(began, ended, then) in &self.polls {
            if let Some(head) = self.head
                && head <= began
                && polls.before_head().is_none()
            {
                polls.head(at(head));
            }
            polls.begin(at(began));
            polls.end(at(began), at(ended));
            polls.then(then);
            loop_time += at(ended).since(at(began));
        }
        if let (Some(head), None) = (self.head, polls.before_head()) {
            polls.head(at(head));
        }
        polls.finish(at(self.end));
        let context = RequestContext::listed_in(None);
        for &(kind, began, ended) in &self.events {
            add(&context, &Event::new(kind, at(began), at(ended)));
        }
        work(&context);
        let facts = KeptFacts {
            method: "GET",
            endpoint: "/a".into(),
            scheme: "http",
            status: 200,
            ending: KeptEnding::Complete,
            trace: None,
            cause: None,
            sent_bytes: 0,
            loop_time,
            started: at(0),
            ended: at(self.end),
        };
        let id = KeptRequests::new(1, OpsEndpoints::default()).new_id();
        KeptRequest::new(id, facts, &polls, Some(&context))
    }
}

fn add(context: &Arc<RequestContext>, event: &Event) {
    context.add_event(event);
}

/// The milliseconds by kind, without the zeros.
fn times(request: &KeptRequest) -> Vec<(&'static str, u64)> {
    let explanation = request.explain();
    let times = PhaseKind::ALL.into_iter().map(|kind| {
        let time = explanation.time(kind).as_millis();
        (kind.label(), u64::try_from(time).unwrap())
    });
    times.filter(|(_, time)| *time > 0).collect()
}

fn assert_explained(request: &KeptRequest) {
    let percent = request.explain().percent();
    assert!((percent - 100.0).abs() < 1e-9, "{percent}: {request:?}");
}

use EventKind::{BlockingQueue, BlockingThread, PoolWait, Query, Transaction, TransactionControl};
use RequestState::{Awaiting, Sending};

#[test]
fn each_moment_counts_once_for_the_most_specific_phase() {
    let request = Script {
        polls: vec![(0, 2, Awaiting), (90, 92, Awaiting)],
        head: None,
        end: 92,
        events: vec![
            (PoolWait, 2, 25),
            (BlockingQueue, 20, 24),
            (BlockingThread, 24, 80),
            (Transaction, 30, 70),
            (TransactionControl, 30, 31),
            (Query, 35, 45),
            (Query, 40, 60),
            (TransactionControl, 65, 70),
        ],
    };
    let request = request.keep();
    assert_eq!(
        times(&request),
        [
            ("query", 25),
            ("transaction_control", 6),
            ("blocking_queue", 4),
            // Until the queue, and while the thread gets the connection.
            ("pool_wait", 19),
            ("transaction", 9),
            ("blocking_thread", 15),
            ("event_loop", 4),
            ("awaiting", 10),
        ]
    );
    assert_explained(&request);
    let offsets: Vec<_> = request.phases.iter().map(Phase::offset).collect();
    assert!(offsets.is_sorted());
}

#[test]
fn a_body_is_split_into_its_own_waits_and_those_for_the_client() {
    let request = Script {
        polls: vec![
            (0, 1, Awaiting),
            (11, 12, Sending),
            (32, 33, Awaiting),
            (63, 64, Sending),
        ],
        head: Some(12),
        end: 70,
        events: vec![],
    };
    let request = request.keep();
    assert_eq!(
        times(&request),
        [
            ("event_loop", 4),
            ("awaiting", 10),
            ("body_awaiting", 30),
            ("sending", 26),
        ]
    );
    assert_eq!(request.head, Some(Duration::from_millis(12)));
    assert_explained(&request);
}

#[test]
fn queries_without_a_slot_are_taken_from_what_they_lie_within() {
    for (outer, kind) in [
        (vec![(BlockingThread, 2, 402)], PhaseKind::BlockingThread),
        (vec![], PhaseKind::Awaiting),
    ] {
        let loops = (0..100).map(|number| (Query, 3 + number * 4, 5 + number * 4));
        let request = Script {
            polls: vec![(0, 2, Awaiting), (452, 454, Awaiting)],
            head: None,
            end: 454,
            events: outer.into_iter().chain(loops).collect(),
        };
        let request = request.keep();
        let explanation = request.explain();
        assert_eq!(
            explanation.time(PhaseKind::Query),
            Duration::from_millis(200)
        );
        let rest = if kind == PhaseKind::Awaiting {
            250
        } else {
            200
        };
        assert_eq!(
            explanation.time(kind),
            Duration::from_millis(rest),
            "{kind:?}"
        );
        assert_explained(&request);
        let left_out = &request.left_out;
        assert_eq!(
            (left_out[0].kind, left_out[0].count),
            (PhaseKind::Query, 76)
        );
    }
}

#[test]
fn queries_that_block_the_loop_are_taken_from_the_loop() {
    let queries = (0..100).map(|number| (Query, 3 + number * 4, 5 + number * 4));
    let request = Script {
        polls: vec![(0, 410, Awaiting), (510, 511, Awaiting)],
        head: None,
        end: 511,
        events: queries.collect(),
    };
    assert_eq!(
        times(&request.keep()),
        [("query", 200), ("event_loop", 211), ("awaiting", 100)]
    );
}

#[test]
fn many_polls_are_explained_by_their_sums() {
    let polls = (0..200).map(|number| {
        (
            number * 10,
            number * 10 + 1,
            if number < 100 { Awaiting } else { Sending },
        )
    });
    let request = Script {
        polls: polls.collect(),
        head: Some(1_000),
        end: 2_000,
        events: vec![],
    };
    let request = request.keep();
    // The wait that follows the last poll before the head ends when the body is polled.
    assert_eq!(
        times(&request),
        [
            ("event_loop", 200),
            ("awaiting", 891),
            ("body_awaiting", 9),
            ("sending", 900)
        ]
    );
    assert_explained(&request);
    assert_eq!(request.left_out[0].count, 183);
}

#[test]
fn a_query_that_still_runs_is_listed_as_unfinished() {
    let request = Script {
        polls: vec![(0, 2, Awaiting)],
        head: None,
        end: 50,
        events: vec![(BlockingQueue, 2, 3)],
    };
    let statement = NonZeroU32::new(9);
    let request = request.keep_with(|context| {
        let mut context = Some(Arc::clone(context));
        context::within(&mut context, || {
            context::note_query(statement, at(5), false);
        });
    });
    assert_eq!(
        times(&request),
        [
            ("query", 45),
            ("blocking_queue", 1),
            ("event_loop", 2),
            ("awaiting", 2)
        ]
    );
    let query = request.phases.iter().find(|phase| phase.is_unfinished);
    assert_eq!(query.unwrap().statement, statement);
    assert!(request.ran(statement.unwrap()));
}

#[test]
fn events_of_an_earlier_request_are_left_out() {
    let request = Script {
        polls: vec![(0, 10, Awaiting)],
        head: None,
        end: 10,
        events: vec![(Query, 1, 2)],
    };
    let request = request.keep_with(|context| {
        let early = Moment::from_nanoseconds(999 * MILLISECOND);
        add(context, &Event::new(Transaction, early, at(9)));
    });
    assert_eq!(times(&request), [("query", 1), ("event_loop", 9)]);
}
