//! A profile: stacks by name, each with its weight. Its size is bounded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The most different stacks of a profile. Further ones are counted together, without frames.
const MOST_STACKS: usize = 4_000;

/// The name in place of the frames of a stack beyond [`MOST_STACKS`].
const OTHER_STACKS: &str = "(other stacks)";

/// What a profile measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileKind {
    /// Processor time, in nanoseconds.
    Cpu,
    /// Live allocations, in bytes.
    Heap,
    /// The growth of live allocations between two profiles, in bytes. What shrank is negative.
    HeapGrowth,
}

impl ProfileKind {
    /// Its name in paths and answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Heap => "heap",
            Self::HeapGrowth => "heap_growth",
        }
    }
}

/// How a profile was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProfileMethod {
    /// The kernel sampled the threads (`perf_event_open`).
    PerfEvents,
    /// Signals of timers interrupted the threads.
    Signals,
    /// jemalloc sampled the allocations.
    Jemalloc,
}

impl ProfileMethod {
    /// Its name in answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::PerfEvents => "perf_events",
            Self::Signals => "signals",
            Self::Jemalloc => "jemalloc",
        }
    }

    /// Its name in sentences.
    pub(crate) fn words(self) -> String {
        self.label().replace('_', " ")
    }
}

/// A function in a stack, and the line of its code that was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame {
    /// The name of the function, without its hash.
    pub function: Arc<str>,
    /// The file, relative to its crate; empty if it is not known.
    pub file: Arc<str>,
    /// The line; 0 if it is not known.
    pub line: u32,
}

/// A stack with its weight.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The endpoint or the job that the thread worked for.
    pub endpoint: Option<Arc<str>>,
    /// Indices into [`Profile::frames`], the outermost first.
    pub frames: Vec<u32>,
    /// How many samples, or live allocations.
    pub count: i64,
    /// Nanoseconds or bytes.
    pub weight: i64,
}

/// Where processor time goes, or what holds the memory.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What it measures.
    pub kind: ProfileKind,
    /// How it was taken.
    pub method: ProfileMethod,
    /// When it began.
    pub started: SystemTime,
    /// How long it took; zero for a heap profile.
    pub duration: Duration,
    /// Nanoseconds between two samples of a thread, or bytes between two sampled allocations.
    pub period: u64,
    /// The frames of all stacks.
    pub frames: Vec<Frame>,
    /// The stacks, each once, the heaviest first.
    pub stacks: Vec<Stack>,
    /// What limits the profile, in sentences for operators; empty if nothing does.
    pub notes: Vec<String>,
}

/// Names what a thread worked for when a sample of it was taken.
pub trait WorkSource {
    /// Called many times a second while a profile is taken: after samples are read, and before [`work_at`](Self::work_at) is
    /// called for them.
    fn keep_up(&mut self) {}

    /// Returns the endpoint or job of a thread at a moment of `CLOCK_MONOTONIC`, in nanoseconds. The moments of one thread
    /// do not decrease from one call to the next.
    fn work_at(&mut self, thread: u32, nanoseconds: u64) -> Option<Arc<str>>;
}

/// Collects stacks, and numbers their frames.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    frames: Vec<Frame>,
    numbers: HashMap<Frame, u32>,
    /// The counts and the weights.
    sums: HashMap<StackKey, (i64, i64)>,
}

/// The endpoint, and the frames with the outermost first.
type StackKey = (Option<Arc<str>>, Vec<u32>);

impl Stacks {
    /// Returns the number of a frame.
    pub(crate) fn number_of(&mut self, frame: &Frame) -> u32 {
        if let Some(number) = self.numbers.get(frame) {
            return *number;
        }
        let number = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        self.frames.push(frame.clone());
        self.numbers.insert(frame.clone(), number);
        number
    }

    /// Whether the name of a frame's function begins with one of these.
    #[cfg(all(target_os = "linux", feature = "heap"))]
    pub(crate) fn is_function_of(&self, frame: u32, beginnings: &[&str]) -> bool {
        let frame = self.frames.get(frame as usize);
        frame.is_some_and(|frame| beginnings.iter().any(|it| frame.function.starts_with(it)))
    }

    /// Adds a stack, the outermost frame first.
    pub(crate) fn add(
        &mut self,
        endpoint: Option<Arc<str>>,
        frames: Vec<u32>,
        count: i64,
        weight: i64,
    ) {
        let mut key = (endpoint, frames);
        if self.sums.len() >= MOST_STACKS && !self.sums.contains_key(&key) {
            let other = Frame {
                function: OTHER_STACKS.into(),
                ..Frame::default()
            };
            key = (None, vec![self.number_of(&other)]);
        }
        let sums = self.sums.entry(key).or_default();
        sums.0 += count;
        sums.1 += weight;
    }

    /// The frames, and the stacks with the heaviest first.
    pub(crate) fn finish(self) -> (Vec<Frame>, Vec<Stack>) {
        let stacks = self.sums.into_iter();
        let mut stacks: Vec<_> = stacks
            .filter(|(_, (count, weight))| (*count, *weight) != (0, 0))
            .map(|((endpoint, frames), (count, weight))| Stack {
                endpoint,
                frames,
                count,
                weight,
            })
            .collect();
        stacks.sort_by(|a, b| {
            b.weight
                .cmp(&a.weight)
                .then_with(|| a.frames.cmp(&b.frames))
        });
        (self.frames, stacks)
    }
}

impl Profile {
    /// The sum of the weights of all stacks that have grown.
    pub fn total(&self) -> i64 {
        let weights = self.stacks.iter().map(|stack| stack.weight.max(0));
        weights.sum()
    }

    /// The sum of the counts of all stacks.
    pub fn count(&self) -> i64 {
        self.stacks.iter().map(|stack| stack.count).sum()
    }

    /// The frames of a stack, the outermost first.
    pub fn frames_of<'a>(&'a self, stack: &'a Stack) -> impl DoubleEndedIterator<Item = &'a Frame> {
        let frames = stack.frames.iter();
        frames.filter_map(|frame| self.frames.get(*frame as usize))
    }

    /// The weight of all stacks that contain a function whose name contains `part`, and of them by endpoint.
    pub fn weight_of(&self, part: &str) -> (i64, BTreeMap<String, i64>) {
        let mut by_endpoint = BTreeMap::new();
        for stack in &self.stacks {
            let mut frames = self.frames_of(stack);
            if frames.any(|frame| frame.function.contains(part)) {
                let endpoint = stack.endpoint.as_deref().unwrap_or_default();
                *by_endpoint.entry(endpoint.to_owned()).or_default() += stack.weight;
            }
        }
        (by_endpoint.values().sum(), by_endpoint)
    }

    /// What has grown since an earlier heap profile, and what has shrunk.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut stacks = Stacks::default();
        for (profile, sign) in [(self, 1), (earlier, -1)] {
            for stack in &profile.stacks {
                let frames = profile.frames_of(stack);
                let frames = frames.map(|frame| stacks.number_of(frame)).collect();
                let endpoint = stack.endpoint.clone();
                stacks.add(endpoint, frames, sign * stack.count, sign * stack.weight);
            }
        }
        let (frames, stacks) = stacks.finish();
        let took = self.started.duration_since(earlier.started);
        Self {
            kind: ProfileKind::HeapGrowth,
            method: self.method,
            started: earlier.started,
            duration: took.unwrap_or_default(),
            period: self.period,
            frames,
            stacks,
            notes: self.notes.clone(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A profile of these stacks: endpoint, frames with the outermost first, weight.
    pub(crate) fn profile(stacks: &[(&str, &[&str], i64)]) -> Profile {
        let mut collected = Stacks::default();
        for (endpoint, names, weight) in stacks {
            let frames = names.iter().map(|name| Frame {
                function: (*name).into(),
                file: "app/src/main.rs".into(),
                line: 7,
            });
            let frames = frames.map(|frame| collected.number_of(&frame)).collect();
            let endpoint = (!endpoint.is_empty()).then(|| Arc::from(*endpoint));
            collected.add(endpoint, frames, 1, *weight);
        }
        let (frames, stacks) = collected.finish();
        Profile {
            kind: ProfileKind::Cpu,
            method: ProfileMethod::PerfEvents,
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            duration: Duration::from_secs(10),
            period: 10_101_010,
            frames,
            stacks,
            notes: Vec::new(),
        }
    }

    #[test]
    fn equal_stacks_are_added_and_the_heaviest_is_first() {
        let profile = profile(&[
            ("/a", &["main", "x"], 1),
            ("/a", &["main", "y"], 5),
            ("/b", &["main", "x"], 2),
            ("/a", &["main", "x"], 3),
        ]);
        let weights: Vec<_> = profile.stacks.iter().map(|stack| stack.weight).collect();
        assert_eq!(weights, [5, 4, 2]);
        assert_eq!((profile.total(), profile.count()), (11, 4));
        let (weight, by_endpoint) = profile.weight_of("x");
        assert_eq!(weight, 6);
        assert_eq!((by_endpoint["/a"], by_endpoint["/b"]), (4, 2));
    }

    #[test]
    fn a_difference_has_what_grew_and_what_shrank_and_nothing_else() {
        let earlier = profile(&[("", &["a"], 5), ("", &["b"], 7), ("", &["c"], 3)]);
        let later = profile(&[("", &["b"], 7), ("", &["a"], 9), ("", &["d"], 1)]);
        let growth = later.since(&earlier);
        let name = |stack: &Stack| growth.frames_of(stack).next().unwrap().function.to_string();
        let stacks = growth.stacks.iter();
        let stacks: Vec<_> = stacks.map(|stack| (name(stack), stack.weight)).collect();
        assert_eq!(
            stacks,
            [
                ("a".to_owned(), 4),
                ("d".to_owned(), 1),
                ("c".to_owned(), -3)
            ]
        );
        assert_eq!(growth.total(), 5);
    }

    #[test]
    fn the_number_of_stacks_is_bounded_and_no_weight_is_lost() {
        let mut stacks = Stacks::default();
        for number in 0..2 * MOST_STACKS {
            let frame = Frame {
                function: number.to_string().into(),
                ..Frame::default()
            };
            let number = stacks.number_of(&frame);
            stacks.add(None, vec![number], 1, 2);
        }
        let (frames, stacks) = stacks.finish();
        assert_eq!(stacks.len(), MOST_STACKS + 1);
        assert_eq!(
            &*frames[stacks[0].frames[0] as usize].function,
            OTHER_STACKS
        );
        let weights = stacks.iter().map(|stack| stack.weight);
        let expected = 4 * i64::try_from(MOST_STACKS).unwrap();
        assert_eq!(weights.sum::<i64>(), expected);
    }
}
