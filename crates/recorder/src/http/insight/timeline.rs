//! The timeline of one request: what its time was spent on.
//!
//! Contains the phases of a request that was kept, and how they explain its time. Phases may overlap: a query runs within
//! a transaction, on a blocking thread, while the handler awaits it. The explanation counts each moment once, for the most
//! specific phase. Which requests are kept is decided in `kept`.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use crate::{
    clock::Moment,
    context::{self, Event, EventKind, RequestContext},
    database::ErrorKind,
    http::{
        insight::{
            causes::FailureCause,
            kept::{KeepReason, KeptId},
            trace::TraceParent,
        },
        record::polls::{Poll, Polls},
    },
    in_flight::RequestState,
};

/// What a request spends time on. An earlier kind is more specific than a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PhaseKind {
    /// A query runs.
    Query,
    /// A transaction begins, commits or is rolled back.
    TransactionControl,
    /// A closure waits for a thread that may block.
    BlockingQueue,
    /// The request waits for a connection of a pool.
    PoolWait,
    /// A transaction is open, and nothing of the above happens.
    Transaction,
    /// A closure runs on a thread that may block, outside of the database.
    BlockingThread,
    /// Code of the application runs on the worker's event loop.
    EventLoop,
    /// The handler awaits something else, before the head of the answer is there.
    Awaiting,
    /// The answer's body awaits something.
    BodyAwaiting,
    /// The answer waits for the client to take what was handed on.
    Sending,
}

impl PhaseKind {
    /// Every kind, the most specific first.
    pub const ALL: [Self; 10] = [
        Self::Query,
        Self::TransactionControl,
        Self::BlockingQueue,
        Self::PoolWait,
        Self::Transaction,
        Self::BlockingThread,
        Self::EventLoop,
        Self::Awaiting,
        Self::BodyAwaiting,
        Self::Sending,
    ];

    /// Its name in reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::TransactionControl => "transaction_control",
            Self::BlockingQueue => "blocking_queue",
            Self::PoolWait => "pool_wait",
            Self::Transaction => "transaction",
            Self::BlockingThread => "blocking_thread",
            Self::EventLoop => "event_loop",
            Self::Awaiting => "awaiting",
            Self::BodyAwaiting => "body_awaiting",
            Self::Sending => "sending",
        }
    }

    fn of(kind: EventKind) -> Self {
        match kind {
            EventKind::Query => Self::Query,
            EventKind::TransactionControl => Self::TransactionControl,
            EventKind::PoolWait => Self::PoolWait,
            EventKind::BlockingQueue => Self::BlockingQueue,
            EventKind::BlockingThread => Self::BlockingThread,
            EventKind::Transaction => Self::Transaction,
        }
    }
}

/// One phase of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// What the time was spent on.
    pub kind: PhaseKind,
    /// The number of a query's statement, if it is kept.
    pub statement: Option<NonZeroU32>,
    /// The error with which a query or transaction control ended, if the database reported one.
    pub error: Option<ErrorKind>,
    /// Whether it lasted still when the request ended.
    pub is_unfinished: bool,
    /// From the beginning of the request to that of the phase, in nanoseconds.
    offset: u64,
    nanoseconds: u64,
}

impl Phase {
    fn new(kind: PhaseKind, offset: u64, end: u64) -> Self {
        Self {
            kind,
            statement: None,
            error: None,
            is_unfinished: false,
            offset,
            nanoseconds: end.saturating_sub(offset),
        }
    }

    /// The time from the beginning of the request to that of the phase.
    pub fn offset(&self) -> Duration {
        Duration::from_nanos(self.offset)
    }

    /// How long the phase lasted.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds)
    }

    fn end(&self) -> u64 {
        self.offset + self.nanoseconds
    }
}

/// Phases of one kind that are not listed one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOutPhases {
    /// What their time was spent on.
    pub kind: PhaseKind,
    /// Their number.
    pub count: u64,
    /// The sum of their durations.
    pub duration: Duration,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptEnding {
    /// The answer was handed on completely.
    Complete,
    /// The client left before the head of an answer.
    NoHead,
    /// The client left within the answer.
    ClientLeft,
    /// The answer's body failed, or was shorter than promised.
    BodyFailed,
}

impl KeptEnding {
    /// Its name in reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::NoHead => "no_head",
            Self::ClientLeft => "client_left",
            Self::BodyFailed => "body_failed",
        }
    }
}

/// A request that is kept with its timeline. It contains no path, header or value.
#[derive(Debug)]
pub struct KeptRequest {
    /// Its id.
    pub id: KeptId,
    /// When it ended.
    pub at: SystemTime,
    /// The value of the label `method`.
    pub method: &'static str,
    /// The value of the label `endpoint`.
    pub endpoint: Arc<str>,
    /// `http` or `https`, by the listener that took it.
    pub scheme: &'static str,
    /// The status that was sent; 499 if the client left before.
    pub status: u16,
    /// How it ended.
    pub ending: KeptEnding,
    /// The caller's span, if the request had a valid `traceparent`.
    pub trace: Option<TraceParent>,
    /// The time from its parsed head to the last byte of its answer.
    pub duration: Duration,
    /// The time until the head of the answer was there, if its body followed later.
    pub head: Option<Duration>,
    /// Bytes of the answer's body that were handed to the connection.
    pub sent_bytes: u64,
    /// The number of its queries.
    pub queries: u64,
    /// The sum of the times of its queries and of transaction control.
    pub database_time: Duration,
    /// The time that it kept its worker's event loop busy.
    pub loop_time: Duration,
    /// The number of its polls.
    pub polls: u32,
    /// Why it failed, if it did.
    pub cause: Option<FailureCause>,
    /// The phases that are known one by one, in the order of their beginnings.
    pub phases: Box<[Phase]>,
    /// The number and the time of the others, by kind.
    pub left_out: Box<[LeftOutPhases]>,
    /// The waits between all polls, by [`PhaseKind::Awaiting`], [`PhaseKind::BodyAwaiting`] and [`PhaseKind::Sending`].
    waits: [Duration; 3],
    pub(super) reasons: AtomicU8,
}

/// The time of a request by what it was spent on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explanation {
    nanoseconds: [u64; PhaseKind::ALL.len()],
    total: u64,
}

impl Explanation {
    /// The time that was spent on this kind, and on no kind before it.
    pub fn time(&self, kind: PhaseKind) -> Duration {
        Duration::from_nanos(self.nanoseconds[kind as usize])
    }

    /// The share of the request's time that its phases explain, from 0 to 100.
    pub fn percent(&self) -> f64 {
        let explained: u64 = self.nanoseconds.iter().sum();
        if self.total == 0 {
            return 100.0;
        }
        (explained as f64 / self.total as f64 * 100.0).min(100.0)
    }
}

/// What is known of a request beside its polls and its context.
#[derive(Debug)]
pub(in crate::http) struct KeptFacts {
    pub(in crate::http) method: &'static str,
    pub(in crate::http) endpoint: Arc<str>,
    pub(in crate::http) scheme: &'static str,
    pub(in crate::http) status: u16,
    pub(in crate::http) ending: KeptEnding,
    pub(in crate::http) trace: Option<TraceParent>,
    pub(in crate::http) cause: Option<FailureCause>,
    pub(in crate::http) sent_bytes: u64,
    pub(in crate::http) loop_time: Duration,
    pub(in crate::http) started: Moment,
    pub(in crate::http) ended: Moment,
}

impl KeptRequest {
    /// Makes the timeline of a request that has ended.
    #[cold]
    pub(in crate::http) fn new(
        id: KeptId,
        facts: KeptFacts,
        polls: &Polls,
        context: Option<&RequestContext>,
    ) -> Self {
        let mut timeline = TimelineBuilder::new(facts.started, facts.ended, polls);
        timeline.add_polls();
        let mut left_out = timeline.left_out_polls(facts.loop_time);
        if let Some(context) = context {
            timeline.add_events(context);
            left_out.extend(TimelineBuilder::left_out_events(context));
        }
        Self {
            id,
            at: SystemTime::now(),
            method: facts.method,
            endpoint: facts.endpoint,
            scheme: facts.scheme,
            status: facts.status,
            ending: facts.ending,
            trace: facts.trace,
            duration: facts.ended.since(facts.started),
            head: (polls.before_head()).map(|(head, _)| head.since(facts.started)),
            sent_bytes: facts.sent_bytes,
            queries: context.map_or(0, RequestContext::queries),
            database_time: context.map_or(Duration::ZERO, RequestContext::database_time),
            loop_time: facts.loop_time,
            cause: facts.cause,
            polls: polls.count(),
            waits: timeline.waits(),
            phases: timeline.into_phases(),
            left_out: left_out.into_boxed_slice(),
            reasons: AtomicU8::new(0),
        }
    }

    /// The longest poll, and when it began.
    pub fn longest_poll(&self) -> Option<Phase> {
        let polls = self.phases.iter();
        let polls = polls.filter(|phase| phase.kind == PhaseKind::EventLoop);
        polls.max_by_key(|phase| phase.nanoseconds).copied()
    }

    /// Why it is kept.
    pub fn reasons(&self) -> impl Iterator<Item = KeepReason> + use<> {
        let reasons = self.reasons.load(Relaxed);
        let all = KeepReason::ALL.into_iter();
        all.filter(move |reason| reasons & reason.bit() != 0)
    }

    /// Whether it ran this statement, as far as its phases are known one by one.
    pub fn ran(&self, statement: NonZeroU32) -> bool {
        let mut phases = self.phases.iter();
        phases.any(|phase| phase.statement == Some(statement))
    }

    /// What its time was spent on. Each moment counts once, for the most specific phase.
    pub fn explain(&self) -> Explanation {
        let total = nanoseconds(self.duration);
        let (mut time, uncovered) = self.sweep(total);
        let mut sums = Sums {
            time: &mut time,
            uncovered,
        };
        self.explain_later_polls(&mut sums);
        self.explain_later_events(&mut sums);
        Explanation {
            nanoseconds: time,
            total,
        }
    }

    /// Returns the time by kind that the listed phases explain, and the rest.
    fn sweep(&self, total: u64) -> ([u64; PhaseKind::ALL.len()], u64) {
        let mut bounds: Vec<u64> = self
            .phases
            .iter()
            .flat_map(|phase| [phase.offset.min(total), phase.end().min(total)])
            .chain([0, total])
            .collect();
        bounds.sort_unstable();
        bounds.dedup();
        let (mut time, mut uncovered) = ([0; PhaseKind::ALL.len()], 0);
        for (from, to) in bounds.iter().zip(bounds.iter().skip(1)) {
            let present = self.phases.iter();
            let present = present.filter(|phase| phase.offset <= *from && phase.end() >= *to);
            match present.map(|phase| phase.kind).min() {
                Some(kind) => time[kind as usize] += to - from,
                None => uncovered += to - from,
            }
        }
        (time, uncovered)
    }

    /// Splits the time after the listed polls among the later polls and the waits between them, by their sums.
    fn explain_later_polls(&self, sums: &mut Sums<'_>) {
        let listed = |kind| -> u64 {
            let phases = self.phases.iter().filter(|phase| phase.kind == kind);
            phases.map(|phase| phase.nanoseconds).sum()
        };
        let [awaiting, body, sending] = self.waits.map(nanoseconds);
        for (kind, sum) in [
            (PhaseKind::EventLoop, nanoseconds(self.loop_time)),
            (PhaseKind::Sending, sending),
            (PhaseKind::Awaiting, awaiting),
            (PhaseKind::BodyAwaiting, body),
        ] {
            sums.cover(kind, sum.saturating_sub(listed(kind)));
        }
    }

    /// Moves the time of events that are not listed from what they lie within, the outermost events first.
    fn explain_later_events(&self, sums: &mut Sums<'_>) {
        use PhaseKind::{
            Awaiting, BlockingQueue, BlockingThread, BodyAwaiting, EventLoop, PoolWait, Query,
            Transaction, TransactionControl,
        };
        let within_polls = if self.queries_block_the_loop() {
            [EventLoop, Awaiting, BodyAwaiting]
        } else {
            [Awaiting, BodyAwaiting, EventLoop]
        };
        let [first, second, third] = within_polls;
        for (kind, sources) in [
            (BlockingThread, &[Awaiting, BodyAwaiting][..]),
            (Transaction, &[BlockingThread, first, second, third]),
            (PoolWait, &[Awaiting, BodyAwaiting, BlockingThread]),
            (BlockingQueue, &[PoolWait, Awaiting, BodyAwaiting]),
            (
                TransactionControl,
                &[Transaction, BlockingThread, first, second, third],
            ),
            (Query, &[Transaction, BlockingThread, first, second, third]),
        ] {
            let left_out = self.left_out.iter().find(|left_out| left_out.kind == kind);
            if let Some(left_out) = left_out {
                sums.take(kind, nanoseconds(left_out.duration), sources);
            }
        }
    }

    /// Whether most of the listed queries ran while the event loop was busy with this request.
    fn queries_block_the_loop(&self) -> bool {
        let queries = self.phases.iter();
        let queries = queries.filter(|phase| phase.kind == PhaseKind::Query);
        let (mut within, mut beside) = (0, 0);
        for query in queries {
            let mut polls = self.phases.iter();
            let is_within = polls.any(|poll| {
                poll.kind == PhaseKind::EventLoop
                    && poll.offset <= query.offset
                    && query.end() <= poll.end()
            });
            if is_within {
                within += query.nanoseconds;
            } else {
                beside += query.nanoseconds;
            }
        }
        within > beside
    }
}

/// Time by kind, while it is explained.
struct Sums<'a> {
    time: &'a mut [u64; PhaseKind::ALL.len()],
    uncovered: u64,
}

impl Sums<'_> {
    /// Explains time that no listed phase covers.
    fn cover(&mut self, kind: PhaseKind, nanoseconds: u64) {
        let covered = nanoseconds.min(self.uncovered);
        self.uncovered -= covered;
        self.time[kind as usize] += covered;
    }

    /// Moves time to `kind` from the first of the sources that have some.
    fn take(&mut self, kind: PhaseKind, nanoseconds: u64, sources: &[PhaseKind]) {
        let mut missing = nanoseconds;
        for source in sources {
            let taken = missing.min(self.time[*source as usize]);
            self.time[*source as usize] -= taken;
            self.time[kind as usize] += taken;
            missing -= taken;
        }
        self.cover(kind, missing);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Collects the phases of one request.
struct TimelineBuilder<'a> {
    started: Moment,
    ended: Moment,
    polls: &'a Polls,
    phases: Vec<Phase>,
}

impl<'a> TimelineBuilder<'a> {
    fn new(started: Moment, ended: Moment, polls: &'a Polls) -> Self {
        Self {
            started,
            ended,
            polls,
            phases: Vec::with_capacity(16),
        }
    }

    /// The time from the beginning of the request to a moment within it.
    fn offset(&self, moment: Moment) -> u64 {
        nanoseconds(moment.min(self.ended).since(self.started))
    }

    fn add(&mut self, kind: PhaseKind, from: Moment, to: Moment) {
        let (from, to) = (self.offset(from), self.offset(to));
        if from < to {
            self.phases.push(Phase::new(kind, from, to));
        }
    }

    fn add_polls(&mut self) {
        let polls = self.polls;
        let first = polls.first();
        for poll in first.iter().chain(&polls.longest_later()) {
            self.add(PhaseKind::EventLoop, poll.began, poll.ended);
        }
        for (poll, next) in first.iter().zip(first.iter().skip(1)) {
            self.add_wait(poll, next.began);
        }
        // After the last poll that is known in its order, the next one is known only if there is none.
        if let (Some(last), None) = (first.last(), polls.longest_later()) {
            self.add_wait(last, self.ended);
        }
    }

    fn add_wait(&mut self, poll: &Poll, next: Moment) {
        if poll.then == RequestState::Sending {
            self.add(PhaseKind::Sending, poll.ended, next);
            return;
        }
        let head = self
            .polls
            .before_head()
            .map_or(self.ended, |(head, _)| head);
        self.add(PhaseKind::Awaiting, poll.ended, next.min(head));
        self.add(PhaseKind::BodyAwaiting, poll.ended.max(head), next);
    }

    fn add_events(&mut self, context: &RequestContext) {
        for event in context.events() {
            self.add_event(&event, false);
        }
        for event in context.unfinished(self.ended) {
            self.add_event(&event, true);
        }
    }

    fn add_event(&mut self, event: &Event, is_unfinished: bool) {
        // A connection may end a query or transaction of an earlier request in a later one.
        if event.started < self.started {
            return;
        }
        let (from, to) = (self.offset(event.started), self.offset(event.ended));
        if from < to {
            self.phases.push(Phase {
                statement: event.statement,
                error: context::error_of(event.error),
                is_unfinished: is_unfinished || event.ended > self.ended,
                ..Phase::new(PhaseKind::of(event.kind), from, to)
            });
        }
    }

    fn left_out_polls(&self, loop_time: Duration) -> Vec<LeftOutPhases> {
        let listed: u64 = self
            .phases
            .iter()
            .filter(|phase| phase.kind == PhaseKind::EventLoop)
            .map(|phase| phase.nanoseconds)
            .sum();
        let first = self.polls.first().len() as u64;
        let listed_polls = first + u64::from(self.polls.longest_later().is_some());
        let count = u64::from(self.polls.count()).saturating_sub(listed_polls);
        let duration = loop_time.saturating_sub(Duration::from_nanos(listed));
        let left_out = LeftOutPhases {
            kind: PhaseKind::EventLoop,
            count,
            duration,
        };
        (count > 0).then_some(left_out).into_iter().collect()
    }

    fn left_out_events(context: &RequestContext) -> impl Iterator<Item = LeftOutPhases> {
        EventKind::ALL.into_iter().filter_map(|kind| {
            let left_out = context.left_out(kind);
            (left_out.count > 0).then(|| LeftOutPhases {
                kind: PhaseKind::of(kind),
                count: left_out.count,
                duration: Duration::from_nanos(left_out.nanoseconds),
            })
        })
    }

    fn waits(&self) -> [Duration; 3] {
        let all = self.polls.waits();
        let before = self.polls.before_head().map_or(all, |(_, waits)| waits);
        let after = all.awaiting.saturating_sub(before.awaiting);
        [before.awaiting, after, all.sending]
    }

    fn into_phases(mut self) -> Box<[Phase]> {
        self.phases.sort_unstable_by_key(|phase| {
            // Of those that begin together, the one that contains the others comes first.
            (
                phase.offset,
                std::cmp::Reverse((phase.nanoseconds, phase.kind)),
            )
        });
        self.phases.into_boxed_slice()
    }
}

#[cfg(test)]
mod tests;
