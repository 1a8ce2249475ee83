//! Background jobs: named work outside of any request, with a duration, an outcome and a tally of queries.
//!
//! A run of a job has a context of its own, so its queries are attributed to the job, also on other threads if they are
//! [carried](crate::context::carry). A run is settled exactly once: when it ends, panics or is dropped.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use pin_project_lite::pin_project;
use vitals_registry::{Counter, Descriptor, Family, Gauge, Histogram, RegistryBuilder, Unit};

use crate::{
    context::{self, RequestContext},
    name_numbers,
    repetition::{Attributed, RanStatements, RepetitionDetector},
    subscriber::log_span,
    suspicions::Suspicion,
};

/// The method of a job, for lists that name endpoints by method and path.
pub(crate) const METHOD: &str = "JOB";

/// Upper bounds of the classic buckets, in seconds. Jobs take from milliseconds to hours.
const SECONDS_BUCKETS: [f64; 10] = [
    0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0,
];

/// Upper bounds of the classic buckets of the queries of a run.
const QUERY_BUCKETS: [f64; 7] = [0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0];

/// How a run ended: the values of the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobOutcome {
    Ok,
    Error,
    Panicked,
    /// Dropped before its end.
    Cancelled,
}

impl JobOutcome {
    const ALL: [Self; 4] = [Self::Ok, Self::Error, Self::Panicked, Self::Cancelled];

    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Panicked => "panicked",
            Self::Cancelled => "cancelled",
        }
    }

    fn of(output: &impl JobOutput) -> Self {
        if output.is_failure() {
            Self::Error
        } else {
            Self::Ok
        }
    }
}

/// What a job returns, and whether that is a failure. An `Err` is one. Implement it for your own types.
#[diagnostic::on_unimplemented(
    message = "a job cannot tell from `{Self}` whether its run failed",
    label = "returns `{Self}`",
    note = "a type of your own can implement `JobOutput`",
    note = "a loop without an end returns `!`: make each of its rounds a job, inside the loop"
)]
pub trait JobOutput {
    /// Whether the run failed.
    fn is_failure(&self) -> bool {
        false
    }
}

impl<T, E> JobOutput for Result<T, E> {
    fn is_failure(&self) -> bool {
        self.is_err()
    }
}

impl<T> JobOutput for Option<T> {}
impl<T> JobOutput for Vec<T> {}

macro_rules! never_fails {
    ($($output:ty)*) => { $(impl JobOutput for $output {})* };
}
never_fails! { () bool char String &str u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }

/// The families of jobs. Each has the job's name as a label.
#[derive(Clone, Debug)]
pub struct JobFamilies {
    in_progress: Family<Gauge, 1>,
    /// By name and outcome.
    runs: Family<Counter, 2>,
    seconds: Family<Histogram, 1>,
    /// None if no queries are recorded.
    database: Option<JobDatabaseFamilies>,
}

/// The families of the jobs' queries.
#[derive(Clone, Debug)]
struct JobDatabaseFamilies {
    queries: Family<Histogram, 1>,
    seconds: Family<Histogram, 1>,
    n_plus_one: Family<Counter, 1>,
    /// By name and kind.
    repeated: Family<Counter, 2>,
}

impl JobFamilies {
    /// Declares the families, including those of queries if there is a `database`. The label is not called `job`, because
    /// that is Prometheus' own label for the scraped job.
    pub fn declare(registry: &mut RegistryBuilder, database: bool) -> Self {
        let name = ["job_name"];
        let seconds = |name, help| Descriptor::new(name, help, ["job_name"]).unit(Unit::Seconds);
        Self {
            in_progress: registry.gauge(Descriptor::new(
                "jobs_in_progress",
                "Runs of background jobs that are in progress.",
                name,
            )),
            runs: registry.counter(Descriptor::new(
                "job_runs_total",
                "Runs of background jobs that ended, each counted once, by outcome.",
                [name[0], "outcome"],
            )),
            seconds: registry.histogram(
                seconds(
                    "job_duration_seconds",
                    "Time from the start of a background job's run to its end, with any outcome.",
                ),
                &SECONDS_BUCKETS,
            ),
            database: database.then(|| JobDatabaseFamilies {
                queries: registry.histogram(
                    Descriptor::new(
                        "job_db_queries",
                        "Queries of each run of a background job (0 included).",
                        name,
                    ),
                    &QUERY_BUCKETS,
                ),
                seconds: registry.histogram(
                    seconds(
                        "job_db_seconds",
                        "Sum of the times of each background job run's queries and transaction control.",
                    ),
                    &SECONDS_BUCKETS,
                ),
                n_plus_one: registry.counter(Descriptor::new(
                    "job_n_plus_one_suspected_total",
                    "Runs of background jobs that ran one statement, with any values, so often that it may be in a loop; the log names the statement.",
                    name,
                )),
                repeated: registry.counter(Descriptor::new(
                    "job_repeated_queries_total",
                    "Runs of background jobs with repeated queries, by kind: n_plus_one with different values, identical with the same values, serial for several statements that read the same rows.",
                    [name[0], "kind"],
                )),
            }),
        }
    }
}

/// Records the runs of background jobs.
#[derive(Debug)]
pub struct Jobs {
    families: JobFamilies,
    repetitions: Option<Arc<RepetitionDetector>>,
}

impl Jobs {
    /// Returns a recorder for `families`. `repetitions` attributes the statements of a service with a database.
    pub fn new(families: JobFamilies, repetitions: Option<Arc<RepetitionDetector>>) -> Self {
        Self {
            families,
            repetitions,
        }
    }

    /// Runs `f` as a job on this thread.
    pub fn run<T: JobOutput>(self: &Arc<Self>, name: &'static str, f: impl FnOnce() -> T) -> T {
        let mut run = Run::begin(self, name);
        let ended = catch_unwind(AssertUnwindSafe(|| run.within(f)));
        run.end(ended)
    }

    /// Observes the queries and holds of a run.
    fn attribute(&self, name: &'static str, context: &RequestContext) {
        for (pool, held) in context.take_held() {
            pool.add(name, held);
        }
        let Some(families) = &self.families.database else {
            return;
        };
        let queries = families.queries.series([name]);
        queries.observe(context.queries() as f64);
        let seconds = families.seconds.series([name]);
        seconds.observe(context.database_time().as_secs_f64());
        let Some(detector) = &self.repetitions else {
            return;
        };
        let to = Attributed {
            method: METHOD,
            endpoint: name,
        };
        let kinds = detector.attribute(context, to, &RanStatements::default());
        if kinds.has_loop() {
            families.n_plus_one.series([name]).inc();
        }
        for kind in kinds.iter() {
            families.repeated.series([name, kind.label()]).inc();
        }
    }
}

/// A run of a job. It is settled when it is dropped.
#[derive(Debug)]
struct Run {
    jobs: Arc<Jobs>,
    name: &'static str,
    started: Instant,
    context: Option<Arc<RequestContext>>,
    log_span: tracing::Span,
    outcome: JobOutcome,
}

impl Run {
    fn begin(jobs: &Arc<Jobs>, name: &'static str) -> Self {
        let families = &jobs.families;
        families.in_progress.series([name]).inc();
        // All series begin at zero, so that the first failure is an increase.
        for outcome in JobOutcome::ALL {
            families.runs.series([name, outcome.label()]);
        }
        if let Some(database) = &families.database {
            database.n_plus_one.series([name]);
            for kind in Suspicion::REPETITIONS {
                database.repeated.series([name, kind.label()]);
            }
        }
        Self {
            jobs: Arc::clone(jobs),
            name,
            started: Instant::now(),
            context: Some(Arc::new(RequestContext::of_job(name_numbers::number_of(
                name,
            )))),
            log_span: log_span(|| tracing::info_span!(parent: None, "job", name)),
            outcome: JobOutcome::Cancelled,
        }
    }

    fn within<T>(&mut self, f: impl FnOnce() -> T) -> T {
        let context = &mut self.context;
        self.log_span.in_scope(|| context::within(context, f))
    }

    /// Settles the run, and returns its result, or resumes its panic.
    fn end<T: JobOutput>(mut self, ended: Result<T, Box<dyn Any + Send>>) -> T {
        match ended {
            Ok(output) => {
                self.outcome = JobOutcome::of(&output);
                output
            }
            Err(panic) => {
                self.outcome = JobOutcome::Panicked;
                drop(self);
                resume_unwind(panic)
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let (families, name) = (&self.jobs.families, self.name);
        families.in_progress.series([name]).dec();
        let seconds = families.seconds.series([name]);
        seconds.observe(self.started.elapsed().as_secs_f64());
        families.runs.series([name, self.outcome.label()]).inc();
        if let Some(context) = self.context.take() {
            let jobs = Arc::clone(&self.jobs);
            context.when_done(move |context| jobs.attribute(name, context));
        }
    }
}

/// The progress of a job.
#[derive(Debug)]
enum Stage {
    New(Arc<Jobs>, &'static str),
    Running(Run),
    Over,
}

pin_project! {
    /// A future that is recorded as a background job.
    #[must_use = "futures do nothing unless they are polled"]
    pub struct Job<F> {
        // None once it has ended.
        #[pin]
        future: Option<F>,
        stage: Stage,
    }

    impl<F> PinnedDrop for Job<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Stage::Running(run) = this.stage {
                // Queries that the future runs in its drop belong to the run.
                run.within(|| this.future.set(None));
            }
        }
    }
}

impl<F> Job<F> {
    /// Returns a future that is recorded as a run of the named job from its first poll on.
    pub fn new(jobs: &Arc<Jobs>, name: &'static str, future: F) -> Self {
        Self {
            future: Some(future),
            stage: Stage::New(Arc::clone(jobs), name),
        }
    }
}

impl<F> fmt::Debug for Job<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl<F> Future for Job<F>
where
    F: Future,
    F::Output: JobOutput,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut future = this.future;
        let mut poll = || {
            let Some(running) = future.as_mut().as_pin_mut() else {
                return Poll::Pending;
            };
            let polled = running.poll(cx);
            if polled.is_ready() {
                future.set(None);
            }
            polled
        };
        let mut run = match std::mem::replace(this.stage, Stage::Over) {
            Stage::New(jobs, name) => Run::begin(&jobs, name),
            Stage::Running(run) => run,
            // It has panicked.
            Stage::Over => return poll(),
        };
        match catch_unwind(AssertUnwindSafe(|| run.within(&mut poll))) {
            Ok(Poll::Pending) => {
                *this.stage = Stage::Running(run);
                Poll::Pending
            }
            Ok(Poll::Ready(output)) => Poll::Ready(run.end(Ok(output))),
            Err(panic) => Poll::Ready(run.end(Err(panic))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic,
        task::{Context, Waker},
    };

    use super::*;
    use crate::context::QueryOnDrop;
    use vitals_registry::Registry;

    fn jobs() -> Arc<Jobs> {
        let mut registry = Registry::builder(std::time::Duration::default);
        let families = JobFamilies::declare(&mut registry, true);
        registry.build().unwrap();
        Arc::new(Jobs::new(families, None))
    }

    /// Runs by outcome: ok, error, panicked, cancelled.
    fn runs(jobs: &Jobs) -> [u64; 4] {
        let runs = |outcome: JobOutcome| jobs.families.runs.series(["a", outcome.label()]).value();
        let counted = JobOutcome::ALL.map(runs);
        let timed = jobs.families.seconds.series(["a"]).snapshot().count;
        assert_eq!(timed, counted.iter().sum::<u64>(), "each run is timed once");
        counted
    }

    fn in_progress(jobs: &Jobs) -> i64 {
        jobs.families.in_progress.series(["a"]).value()
    }

    fn poll<F: Future<Output: JobOutput>>(job: Pin<&mut Job<F>>) -> Poll<F::Output> {
        job.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_run_is_settled_once_with_any_outcome() {
        let jobs = jobs();
        {
            let mut job = Box::pin(Job::new(&jobs, "a", async {}));
            assert_eq!(in_progress(&jobs), 0, "it has not begun");
            assert!(poll(job.as_mut()).is_ready());
        }
        assert_eq!((runs(&jobs), in_progress(&jobs)), ([1, 0, 0, 0], 0));
        let mut failing = Box::pin(Job::new(&jobs, "a", async { Err::<(), _>(7) }));
        assert_eq!(poll(failing.as_mut()), Poll::Ready(Err(7)));
        drop(failing);
        assert_eq!((runs(&jobs), in_progress(&jobs)), ([1, 1, 0, 0], 0));
        let mut pending = Box::pin(Job::new(&jobs, "a", std::future::pending::<()>()));
        assert!(poll(pending.as_mut()).is_pending());
        assert!(poll(pending.as_mut()).is_pending());
        assert_eq!(in_progress(&jobs), 1);
        drop(pending);
        assert_eq!((runs(&jobs), in_progress(&jobs)), ([1, 1, 0, 1], 0));
        drop(Job::new(&jobs, "a", async {}));
        assert_eq!(runs(&jobs), [1, 1, 0, 1], "it never began");
    }

    #[test]
    fn queries_in_the_drop_of_a_future_belong_to_its_run() {
        let jobs = jobs();
        let queries = || {
            let families = jobs.families.database.as_ref().unwrap();
            families.queries.series(["a"]).snapshot().sum
        };
        let mut pending = Box::pin(Job::new(&jobs, "a", async {
            let _query = QueryOnDrop;
            std::future::pending::<()>().await;
        }));
        assert!(poll(pending.as_mut()).is_pending());
        drop(pending);
        assert_eq!((runs(&jobs), queries()), ([0, 0, 0, 1], 1.0));
        // A future that keeps its value until it is dropped.
        let query = QueryOnDrop;
        let mut ready = Box::pin(Job::new(
            &jobs,
            "a",
            std::future::poll_fn(move |_| {
                let _kept = &query;
                Poll::Ready(())
            }),
        ));
        assert!(poll(ready.as_mut()).is_ready());
        drop(ready);
        assert_eq!((runs(&jobs), queries()), ([1, 0, 0, 1], 2.0));
    }

    #[test]
    fn a_panic_settles_the_run_and_is_resumed() {
        let jobs = jobs();
        let mut job = Box::pin(Job::new(&jobs, "a", async { panic!("on purpose") }));
        let polled = panic::catch_unwind(AssertUnwindSafe(|| {
            let _: Poll<()> = poll(job.as_mut());
        }));
        assert!(polled.is_err());
        assert_eq!((runs(&jobs), in_progress(&jobs)), ([0, 0, 1, 0], 0));
        drop(job);
        assert_eq!(runs(&jobs), [0, 0, 1, 0]);
        let ran = panic::catch_unwind(AssertUnwindSafe(|| jobs.run::<()>("a", || panic!("too"))));
        assert!(ran.is_err());
        assert_eq!((runs(&jobs), in_progress(&jobs)), ([0, 0, 2, 0], 0));
        assert!(context::current().is_none());
    }

    #[test]
    fn a_job_on_this_thread_returns_what_its_work_returns() {
        let jobs = jobs();
        assert_eq!(jobs.run("a", || 7), 7);
        assert_eq!(jobs.run("a", || Err::<(), _>("no")), Err("no"));
        assert_eq!(runs(&jobs), [1, 1, 0, 0]);
    }
}
