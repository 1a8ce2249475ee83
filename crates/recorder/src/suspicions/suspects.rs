//! The statements that were suspicious, by the endpoint or job that ran them: what is suspected, and the line of code.
//!
//! Bounded: 1,024 of them. Each stack is captured at most once an hour, by the thread that runs the query.

use std::{
    cmp::Reverse,
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use vitals_registry::Counter;

use super::{
    Suspicion,
    frames::{CodeLocation, Frames},
    stack::Stack,
    symboliser,
};
use crate::{
    clock::{self, Moment},
    context::{Owner, owner::WorkOwner},
};

/// The most suspects that are kept.
const MOST_SUSPECTS: usize = 1024;

const WITHOUT_LINES: &str = "the program was built without debug lines";
const NOT_ON_STACK: &str = "the stack has no code of the application: the query ran on a thread of its own, or the program was built without symbols";
const NOT_YET: &str = "the stack is not symbolised yet";

/// The time between two captures for one suspect.
const BETWEEN_CAPTURES: Duration = Duration::from_secs(3600);

/// A statement as one endpoint or job runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SuspectKey {
    statement: NonZeroU32,
    /// The word of the method, and the number of the name: see [`WorkOwner`].
    method: u64,
    name: u32,
}

impl SuspectKey {
    pub(crate) fn new(statement: NonZeroU32, owner: WorkOwner) -> Self {
        Self {
            statement,
            method: owner.method,
            name: owner.name,
        }
    }

    /// The number of the statement.
    pub(crate) fn statement(self) -> NonZeroU32 {
        self.statement
    }

    fn owner(self) -> WorkOwner {
        WorkOwner {
            method: self.method,
            name: self.name,
            trace_id: [0; 2],
        }
    }
}

/// What is known of the line of code of a suspect.
#[derive(Debug)]
enum Search {
    /// The stack is not symbolised yet.
    Captured(Stack),
    /// `None` if the stack has no frame of the application.
    Done(Option<CodeLocation>),
}

impl Search {
    fn location(&self) -> Option<&CodeLocation> {
        match self {
            Self::Captured(_) => None,
            Self::Done(location) => location.as_ref(),
        }
    }

    /// Why the location is not known, or not fully.
    fn note(&self) -> Option<&'static str> {
        match self {
            Self::Captured(_) => Some(NOT_YET),
            Self::Done(None) => Some(NOT_ON_STACK),
            Self::Done(Some(CodeLocation { file: None, .. })) => Some(WITHOUT_LINES),
            Self::Done(Some(_)) => None,
        }
    }
}

#[derive(Debug)]
struct Suspect {
    suspicions: [bool; Suspicion::ALL.len()],
    captured: Moment,
    captured_at: SystemTime,
    search: Search,
}

/// A suspicion about a statement, to be reported.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocatedSuspicion {
    /// What is suspected, in the order of [`Suspicion::ALL`].
    pub suspicions: Vec<Suspicion>,
    /// The endpoint or job that ran the statement.
    pub owner: Owner,
    /// The code that ran it, if it is known.
    pub location: Option<CodeLocation>,
    /// Why the location is not known, or not fully.
    pub note: Option<&'static str>,
    /// When the stack was captured.
    pub captured_at: SystemTime,
}

/// The suspects of one monitoring. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Suspects {
    known: Arc<Mutex<HashMap<SuspectKey, Suspect>>>,
    captures: Arc<Counter>,
}

impl Suspects {
    /// Counts captures in `captures`.
    pub(super) fn new(captures: Arc<Counter>) -> Self {
        Self {
            known: Arc::default(),
            captures,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SuspectKey, Suspect>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Captures the stack of this thread, unless that was done within the hour. Returns whether it was done.
    pub(super) fn capture(&self, key: SuspectKey) -> bool {
        self.capture_at(key, clock::now())
    }

    fn capture_at(&self, key: SuspectKey, now: Moment) -> bool {
        let mut known = self.lock();
        if !is_due(&mut known, key, now) {
            return false;
        }
        let stack = Stack::capture();
        self.captures.inc();
        let suspect = Suspect {
            suspicions: Default::default(),
            captured: now,
            captured_at: SystemTime::now(),
            search: Search::Captured(stack),
        };
        known.insert(key, suspect);
        true
    }

    /// Whether the stack was captured.
    pub(super) fn is_captured(&self, key: SuspectKey) -> bool {
        self.lock().contains_key(&key)
    }

    /// Notes what is suspected.
    pub(super) fn suspect(&self, key: SuspectKey, suspicion: Suspicion) {
        if let Some(suspect) = self.lock().get_mut(&key) {
            suspect.suspicions[suspicion as usize] = true;
        }
    }

    /// Moves a suspect to the endpoint that turned out to be right, unless that is known.
    pub(super) fn correct(&self, guessed: SuspectKey, right: SuspectKey) {
        if guessed != right {
            let mut known = self.lock();
            if let Some(suspect) = known.remove(&guessed) {
                known.entry(right).or_insert(suspect);
            }
        }
    }

    /// Finds the line of a suspect, on this thread.
    pub(super) fn symbolise(&self, key: SuspectKey, frames: &mut Frames) {
        let stack = match self.lock().get(&key) {
            Some(Suspect {
                search: Search::Captured(stack),
                ..
            }) => stack.clone(),
            _ => return,
        };
        // Without the lock: it takes its time.
        let location = frames.application_frame(&stack);
        if let Some(suspect) = self.lock().get_mut(&key)
            && matches!(&suspect.search, Search::Captured(searched) if *searched == stack)
        {
            suspect.search = Search::Done(location);
        }
    }

    /// Finds the line of a suspect soon, on the thread that symbolises.
    pub(super) fn symbolise_soon(&self, key: SuspectKey) {
        let suspects = self.clone();
        // If too many wait, the line is found when something else asks for it.
        drop(symboliser::run_later(Box::new(move |frames| {
            suspects.symbolise(key, frames);
        })));
    }

    /// Symbolises all stacks that were not, on this thread.
    pub(super) fn symbolise_all(&self) {
        let keys: Vec<_> = self.lock().keys().copied().collect();
        let mut frames = Frames::default();
        for key in keys {
            self.symbolise(key, &mut frames);
        }
    }

    /// Calls `then` with the location of a suspect, at once if it is known, or else on the thread that symbolises.
    pub(super) fn when_known(
        &self,
        key: SuspectKey,
        then: impl FnOnce(Option<&CodeLocation>) + Send + 'static,
    ) {
        let is_known = match self.lock().get(&key) {
            Some(suspect) => matches!(suspect.search, Search::Done(_)),
            None => true,
        };
        if is_known {
            return then(self.location(key).as_ref());
        }
        let suspects = self.clone();
        let task: symboliser::Task = Box::new(move |frames| {
            suspects.symbolise(key, frames);
            then(suspects.location(key).as_ref());
        });
        if let Err(task) = symboliser::run_later(task) {
            // Too many wait: the line is not worth it, the log line is.
            self.lock().remove(&key);
            task(&mut Frames::default());
        }
    }

    fn location(&self, key: SuspectKey) -> Option<CodeLocation> {
        self.lock().get(&key)?.search.location().cloned()
    }

    /// The suspicions about a statement, the latest first.
    pub(super) fn of_statement(&self, statement: NonZeroU32) -> Vec<LocatedSuspicion> {
        let known = self.lock();
        let of_statement = known.iter().filter(|(key, _)| key.statement == statement);
        let mut of_statement: Vec<_> = of_statement.collect();
        of_statement.sort_by_key(|(_, suspect)| Reverse(suspect.captured));
        let located = of_statement
            .into_iter()
            .map(|(key, suspect)| LocatedSuspicion {
                suspicions: suspect.suspicions(),
                owner: key.owner().into(),
                location: suspect.search.location().cloned(),
                note: suspect.search.note(),
                captured_at: suspect.captured_at,
            });
        located.collect()
    }
}

impl Suspect {
    fn suspicions(&self) -> Vec<Suspicion> {
        let all = Suspicion::ALL.into_iter();
        all.filter(|suspicion| self.suspicions[*suspicion as usize])
            .collect()
    }
}

/// Whether a capture is due. If too many suspects are known, the oldest makes room, unless it was captured within the hour.
///
/// A suspect whose endpoint is not known yet may be any of its statement, so that one capture for the statement will do.
fn is_due(known: &mut HashMap<SuspectKey, Suspect>, key: SuspectKey, now: Moment) -> bool {
    let is_recent = |suspect: &Suspect| now.since(suspect.captured) < BETWEEN_CAPTURES;
    let is_done = match known.get(&key) {
        Some(suspect) => is_recent(suspect),
        None if key.name == 0 => {
            let mut others = known.iter();
            others.any(|(other, suspect)| other.statement == key.statement && is_recent(suspect))
        }
        None => false,
    };
    if is_done {
        return false;
    }
    if known.len() >= MOST_SUSPECTS && !known.contains_key(&key) {
        let captured = known
            .iter()
            .map(|(key, suspect)| (suspect.captured.nanoseconds(), *key));
        let Some((_, oldest)) = captured.min_by_key(|(captured, _)| *captured) else {
            return false;
        };
        if known.get(&oldest).is_some_and(is_recent) {
            return false;
        }
        known.remove(&oldest);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspects() -> Suspects {
        Suspects::new(Arc::new(Counter::new(1)))
    }

    fn key(statement: u32, name: u32) -> SuspectKey {
        let owner = WorkOwner {
            method: 1,
            name,
            trace_id: [0; 2],
        };
        SuspectKey::new(NonZeroU32::new(statement).unwrap(), owner)
    }

    /// The moment at which all that was captured until now may be captured again.
    fn an_hour_later() -> Moment {
        let later = u64::try_from(BETWEEN_CAPTURES.as_nanos()).unwrap();
        Moment::from_nanoseconds(clock::now().nanoseconds() + later)
    }

    #[test]
    fn a_stack_is_captured_once_for_each_statement_and_endpoint_and_hour() {
        let suspects = suspects();
        assert!(suspects.capture(key(1, 1)));
        assert!(suspects.capture(key(1, 2)));
        assert!(suspects.capture(key(2, 1)));
        for _ in 0..100 {
            for (statement, name) in [(1, 1), (1, 2), (2, 1), (1, 0), (2, 0)] {
                assert!(!suspects.capture(key(statement, name)));
            }
        }
        assert_eq!(suspects.captures.value(), 3);
        let later = an_hour_later();
        assert!(suspects.capture_at(key(1, 2), later));
        assert!(!suspects.capture_at(key(1, 2), later));
        assert_eq!(suspects.captures.value(), 4);
    }

    #[test]
    fn an_endpoint_that_was_guessed_wrong_is_corrected() {
        let suspects = suspects();
        assert!(suspects.capture(key(1, 1)));
        suspects.suspect(key(1, 1), Suspicion::Slow);
        suspects.correct(key(1, 1), key(1, 2));
        assert!(!suspects.capture(key(1, 2)));
        let found = suspects.of_statement(NonZeroU32::MIN);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].suspicions, [Suspicion::Slow]);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_makes_room_after_an_hour() {
        let suspects = suspects();
        for statement in 1..=1024 {
            assert!(suspects.capture(key(statement, 1)));
        }
        assert!(!suspects.capture(key(5000, 1)));
        assert!(suspects.capture_at(key(5000, 1), an_hour_later()));
        assert_eq!(suspects.lock().len(), MOST_SUSPECTS);
        assert!(suspects.of_statement(NonZeroU32::MIN).is_empty());
    }

    #[test]
    fn the_latest_comes_first_also_if_the_clock_of_the_system_went_back() {
        let suspects = suspects();
        for (name, ahead) in [(1, 3600), (2, 0), (3, 1800)] {
            let key = key(1, name);
            let later = Duration::from_secs(name.into());
            assert!(suspects.capture_at(key, clock::now().after(later)));
            let mut known = suspects.lock();
            let captured = known.get_mut(&key).unwrap();
            captured.captured_at += Duration::from_secs(ahead);
        }
        let found = suspects.of_statement(NonZeroU32::MIN);
        let order: Vec<_> = found.iter().map(|one| one.captured_at).collect();
        assert!(order[0] > order[1] && order[1] < order[2], "{order:?}");
        assert!(order[0] < order[2], "{order:?}");
    }

    #[test]
    fn what_waits_for_a_location_is_called_once_it_is_known() {
        let suspects = suspects();
        assert!(suspects.capture(key(1, 1)));
        let (send, called) = std::sync::mpsc::channel();
        for _ in 0..2 {
            let send = send.clone();
            suspects.when_known(key(1, 1), move |location| {
                send.send(location.cloned()).unwrap();
            });
        }
        let bound = Duration::from_secs(60);
        // All frames of this test are ours or the standard library's.
        assert_eq!(called.recv_timeout(bound), Ok(None));
        assert_eq!(called.recv_timeout(bound), Ok(None));
        let is_done = matches!(suspects.lock()[&key(1, 1)].search, Search::Done(_));
        assert!(is_done);
        suspects.when_known(key(9, 9), move |location| {
            send.send(location.cloned()).unwrap();
        });
        assert_eq!(called.try_recv(), Ok(None), "nothing to wait for");
    }
}
