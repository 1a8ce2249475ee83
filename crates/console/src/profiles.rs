//! Profiles on demand: one of each kind at a time, so many in a minute, and the last ten are kept.
//!
//! A profile is taken on a thread of its own. It ends early if its client leaves, or if the server stops.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use actix_web::http::StatusCode;
use tokio::sync::oneshot;
use vitals_profiler::{
    Profile, ProfileError, ProfileKind, WorkSource, activate_heap_profiles, cpu_profile,
    heap_growth, heap_profile,
};
use vitals_recorder::{problem::Problem, thread_work::WorkRecording};

/// How many profiles are kept.
const MOST_KEPT: usize = 10;

/// How many profiles of a kind may be started in a [`PERIOD`].
const MOST_STARTS: usize = 12;
const PERIOD: Duration = Duration::from_secs(60);

/// Takes profiles, and keeps the last ones. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct Profiles {
    inner: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cpu: Turns,
    heap: Turns,
    kept: VecDeque<KeptProfile>,
    last_id: u64,
    is_closed: bool,
}

/// The profiles of one kind that run or ran.
#[derive(Default)]
struct Turns {
    running: Option<Running>,
    /// The starts in the last [`PERIOD`].
    starts: VecDeque<Instant>,
}

/// A profile that is being taken.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) began: Instant,
    pub(crate) time: Duration,
    stop: Arc<AtomicBool>,
}

/// A profile with its number.
#[derive(Clone)]
pub(crate) struct KeptProfile {
    pub(crate) id: u64,
    pub(crate) profile: Arc<Profile>,
}

/// The right to take a profile of a kind. Returned when it is dropped.
struct Turn {
    profiles: Profiles,
    kind: ProfileKind,
    stop: Arc<AtomicBool>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.profiles.lock().turns(self.kind).running = None;
    }
}

/// Ends a profile whose client has left.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl State {
    fn turns(&mut self, kind: ProfileKind) -> &mut Turns {
        match kind {
            ProfileKind::Cpu => &mut self.cpu,
            ProfileKind::Heap | ProfileKind::HeapGrowth => &mut self.heap,
        }
    }
}

impl Profiles {
    /// Prepares profiles: from now on the allocations are sampled, if jemalloc was started for that.
    pub(crate) fn prepare() -> Self {
        if !activate_heap_profiles() {
            tracing::info!("allocations are not sampled: there are no heap profiles");
        }
        Self {
            inner: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The profiles that are being taken: of the processor, and of the heap.
    pub(crate) fn running(&self) -> [(ProfileKind, Option<Running>); 2] {
        let state = self.lock();
        [
            (ProfileKind::Cpu, state.cpu.running.clone()),
            (ProfileKind::Heap, state.heap.running.clone()),
        ]
    }

    /// The last profiles, the newest first.
    pub(crate) fn kept(&self) -> Vec<KeptProfile> {
        self.lock().kept.iter().rev().cloned().collect()
    }

    /// The kept profile with this number.
    pub(crate) fn find(&self, id: u64) -> Option<KeptProfile> {
        let state = self.lock();
        state.kept.iter().find(|kept| kept.id == id).cloned()
    }

    /// Ends the profiles that are being taken, and rejects further ones.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        for running in [&state.cpu.running, &state.heap.running]
            .into_iter()
            .flatten()
        {
            running.stop.store(true, Relaxed);
        }
    }

    /// Samples the processor time of all threads.
    ///
    /// # Errors
    ///
    /// Returns 409 while another one is taken, 429 after too many, and 503 if it cannot be taken.
    pub(crate) async fn take_cpu(
        &self,
        time: Duration,
        hertz: u32,
    ) -> Result<KeptProfile, Problem> {
        self.take(ProfileKind::Cpu, time, move |stop| {
            cpu_profile(time, hertz, &mut RecordedWork(WorkRecording::begin()), stop)
        })
        .await
    }

    /// Takes a profile of the live allocations.
    ///
    /// # Errors
    ///
    /// Returns 409 while another one is taken, 429 after too many, and 503 if it cannot be taken.
    pub(crate) async fn take_heap(&self) -> Result<KeptProfile, Problem> {
        self.take(ProfileKind::Heap, Duration::ZERO, |_| heap_profile())
            .await
    }

    /// Takes a profile of what the live allocations grow and shrink by within `time`.
    ///
    /// # Errors
    ///
    /// Returns 409 while another profile of the heap is taken, 429 after too many, and 503 if it cannot be taken.
    pub(crate) async fn take_heap_growth(&self, time: Duration) -> Result<KeptProfile, Problem> {
        self.take(ProfileKind::HeapGrowth, time, move |stop| {
            heap_growth(time, stop)
        })
        .await
    }

    async fn take<F>(&self, kind: ProfileKind, time: Duration, f: F) -> Result<KeptProfile, Problem>
    where
        F: FnOnce(&AtomicBool) -> Result<Profile, ProfileError> + Send + 'static,
    {
        let turn = self.turn(kind, time)?;
        let _stop = StopOnDrop(Arc::clone(&turn.stop));
        let (sender, taken) = oneshot::channel();
        let profiles = self.clone();
        let thread = thread::Builder::new().name("vitals-profile".to_owned());
        let run = move || {
            let taken = f(&turn.stop);
            // The next profile may begin before the client has this one.
            drop(turn);
            // The client may have left.
            drop(sender.send(taken.map(|profile| profiles.keep(profile))));
        };
        thread.spawn(run).map_err(|error| no_thread(&error))?;
        let taken = taken.await.map_err(|_| broken())?;
        taken.map_err(|error| unavailable(error.to_string()))
    }

    /// Takes the turn of a kind.
    fn turn(&self, kind: ProfileKind, time: Duration) -> Result<Turn, Problem> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(unavailable("The server is shutting down.".to_owned()));
        }
        let turns = state.turns(kind);
        let now = Instant::now();
        if let Some(running) = &turns.running {
            let rest = running.time.saturating_sub(running.began.elapsed());
            let detail = "Another profile of this kind is being taken. There is one at a time.";
            return Err(Problem::new(StatusCode::CONFLICT, detail).retry_after(seconds(rest)));
        }
        turns
            .starts
            .retain(|start| now.duration_since(*start) < PERIOD);
        if let (true, Some(first)) = (turns.starts.len() >= MOST_STARTS, turns.starts.front()) {
            let rest = PERIOD.saturating_sub(now.duration_since(*first));
            let detail = "There are at most 12 profiles of a kind in a minute.";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
            return Err(problem.retry_after(seconds(rest)));
        }
        turns.starts.push_back(now);
        let stop = Arc::new(AtomicBool::new(false));
        turns.running = Some(Running {
            began: now,
            time,
            stop: Arc::clone(&stop),
        });
        Ok(Turn {
            profiles: self.clone(),
            kind,
            stop,
        })
    }

    fn keep(&self, profile: Profile) -> KeptProfile {
        let mut state = self.lock();
        state.last_id += 1;
        let kept = KeptProfile {
            id: state.last_id,
            profile: Arc::new(profile),
        };
        state.kept.push_back(kept.clone());
        if state.kept.len() > MOST_KEPT {
            state.kept.pop_front();
        }
        kept
    }
}

impl fmt::Debug for Profiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profiles").finish_non_exhaustive()
    }
}

/// The endpoint or job that a thread works for, by the recorder.
struct RecordedWork(WorkRecording);

impl WorkSource for RecordedWork {
    fn keep_up(&mut self) {
        self.0.keep_up();
    }

    fn work_at(&mut self, thread: u32, nanoseconds: u64) -> Option<Arc<str>> {
        self.0.work_at(thread, nanoseconds)
    }
}

/// Whole seconds, at least one.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs())
        .unwrap_or(u32::MAX)
        .saturating_add(1)
}

fn unavailable(detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

fn no_thread(error: &io::Error) -> Problem {
    unavailable("There is no thread for a profile.".to_owned()).caused_by(error)
}

fn broken() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The profile could not be taken.",
    )
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::mpsc,
        task::{Context, Waker},
        time::SystemTime,
    };

    use vitals_profiler::ProfileMethod;

    use super::*;

    fn is_pending(future: Pin<&mut impl Future>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        future.poll(&mut context).is_pending()
    }

    fn profile() -> Profile {
        Profile {
            kind: ProfileKind::Cpu,
            method: ProfileMethod::PerfEvents,
            started: SystemTime::now(),
            duration: Duration::ZERO,
            period: 1,
            frames: Vec::new(),
            stacks: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[actix_web::test]
    async fn one_profile_of_a_kind_is_taken_at_a_time() {
        let profiles = Profiles::prepare();
        let (end, ended) = mpsc::channel::<()>();
        let first = profiles.take(ProfileKind::Cpu, PERIOD, move |_| {
            ended.recv().unwrap();
            Ok(profile())
        });
        let mut first = Box::pin(first);
        assert!(is_pending(first.as_mut()));
        let second = profiles
            .take(ProfileKind::Cpu, PERIOD, |_| Ok(profile()))
            .await;
        assert_eq!(second.map(|kept| kept.id).unwrap_err().status(), 409);
        let heap = profiles
            .take(ProfileKind::Heap, PERIOD, |_| Ok(profile()))
            .await;
        assert_eq!(heap.map(|kept| kept.id).unwrap(), 1);
        end.send(()).unwrap();
        assert_eq!(first.await.map(|kept| kept.id).unwrap(), 2);
        assert!(
            profiles
                .running()
                .iter()
                .all(|(_, running)| running.is_none())
        );
    }

    #[actix_web::test]
    async fn the_last_ten_are_kept_and_twelve_may_start_in_a_minute() {
        let profiles = Profiles::prepare();
        for _ in 0..MOST_STARTS {
            let taken = profiles
                .take(ProfileKind::Heap, PERIOD, |_| Ok(profile()))
                .await;
            assert!(taken.is_ok());
        }
        let ids: Vec<_> = profiles.kept().iter().map(|kept| kept.id).collect();
        assert_eq!(ids, (3..=12).rev().collect::<Vec<_>>());
        assert!(profiles.find(2).is_none() && profiles.find(3).is_some());
        let further = profiles
            .take(ProfileKind::Heap, PERIOD, |_| Ok(profile()))
            .await;
        let problem = further.map(|kept| kept.id).unwrap_err();
        assert_eq!(problem.status(), 429);
        assert!(problem.to_response().headers().contains_key("retry-after"));
    }

    #[actix_web::test]
    async fn a_profile_ends_if_its_client_leaves_or_the_server_stops() {
        for by_close in [false, true] {
            let profiles = Profiles::prepare();
            let (seen, stopped) = mpsc::channel();
            let taken = profiles.take(ProfileKind::Cpu, PERIOD, move |stop| {
                while !stop.load(Relaxed) {
                    thread::yield_now();
                }
                seen.send(()).unwrap();
                Err(ProfileError::Stopped)
            });
            let mut taken = Box::pin(taken);
            assert!(is_pending(taken.as_mut()));
            if by_close {
                profiles.close();
                let problem = taken.await.map(|kept| kept.id).unwrap_err();
                assert_eq!(problem.status(), 503);
                let next = profiles
                    .take(ProfileKind::Cpu, PERIOD, |_| Ok(profile()))
                    .await;
                assert_eq!(next.map(|kept| kept.id).unwrap_err().status(), 503);
            } else {
                drop(taken);
            }
            stopped.recv().unwrap();
        }
    }
}
