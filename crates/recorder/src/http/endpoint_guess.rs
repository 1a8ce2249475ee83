//! The endpoint of a request before it is answered, for the list of requests in flight.
//!
//! Actix routes a request without telling the middleware, and finding the route a second time would cost more than all
//! other recording. So each worker remembers the endpoint of each class of paths. The first path of a class is looked up
//! before its handler runs, and each answer corrects a wrong guess. Only the list and the reports of stalls use guesses, no
//! metric does.
//!
//! Most requests have a path whose outline the worker has seen before. That is cheaper to find than its class, and leads to
//! the series of the last answer as well.

mod path_class;
mod path_outline;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

pub(in crate::http) use path_class::PathClass;
pub(in crate::http) use path_outline::PathOutline;

use crate::{
    clock::Moment,
    http::series::{
        cache::{CachedPath, RequestOutcome, RequestSeries},
        path_key::PathKey,
    },
};

/// The classes, and the outlines, that a worker remembers. Each is kept at one place, where a newer one replaces it.
const MOST_REMEMBERED: usize = 1024;

/// The most look-ups in each period, so that paths without a class that repeats cost little.
const MOST_LOOKUPS: u32 = 256;
/// The period of look-ups.
const PERIOD: Duration = Duration::from_millis(250);

/// The endpoints that one worker remembers.
#[derive(Debug)]
pub(super) struct EndpointGuesses {
    outlines: RefCell<Box<[KnownOutline]>>,
    classes: Box<[Cell<(PathClass, u32)>]>,
    lookups: Cell<u32>,
    period_began: Cell<Option<Moment>>,
}

/// What the requests of one outline have led to.
#[derive(Clone, Debug, Default)]
struct KnownOutline {
    outline: PathOutline,
    /// The number of the endpoint.
    endpoint: u32,
    /// The series of the last answer.
    series: Option<Rc<CachedPath>>,
}

impl Default for EndpointGuesses {
    fn default() -> Self {
        Self {
            outlines: RefCell::new(vec![KnownOutline::default(); MOST_REMEMBERED].into()),
            classes: (0..MOST_REMEMBERED).map(|_| Cell::default()).collect(),
            lookups: Cell::new(0),
            period_began: Cell::new(None),
        }
    }
}

/// The place of a hash, whose upper bits depend on all others.
#[inline]
fn place(hash: u64) -> usize {
    (hash >> 40) as usize % MOST_REMEMBERED
}

impl EndpointGuesses {
    /// The number of the endpoint that paths of this outline have led to.
    #[inline]
    pub(super) fn get(&self, outline: PathOutline) -> Option<u32> {
        let known = &self.outlines.borrow()[place(outline.0)];
        (known.outline == outline).then_some(known.endpoint)
    }

    /// The number of the endpoint that paths of this class have led to. It is remembered for the outline, too.
    #[cold]
    pub(super) fn get_by_class(&self, outline: PathOutline, class: PathClass) -> Option<u32> {
        let (known, endpoint) = self.classes[place(class.0)].get();
        let endpoint = (known == class).then_some(endpoint)?;
        self.set_outline(outline, endpoint);
        Some(endpoint)
    }

    /// Remembers an endpoint by its number.
    #[cold]
    pub(super) fn set(&self, outline: PathOutline, class: PathClass, endpoint: u32) {
        self.classes[place(class.0)].set((class, endpoint));
        self.set_outline(outline, endpoint);
    }

    fn set_outline(&self, outline: PathOutline, endpoint: u32) {
        self.outlines.borrow_mut()[place(outline.0)] = KnownOutline {
            outline,
            endpoint,
            series: None,
        };
    }

    /// The series of the last answer to a path of this outline, if they are those of this key and outcome.
    #[inline]
    pub(super) fn series(
        &self,
        outline: PathOutline,
        key: PathKey<'_>,
        outcome: RequestOutcome,
    ) -> Option<Rc<RequestSeries>> {
        let known = &self.outlines.borrow()[place(outline.0)];
        let series = known.series.as_ref()?;
        (known.outline == outline && series.is_of(key, outcome)).then(|| series.series())
    }

    /// Remembers the series of an answer to a path of this outline.
    #[cold]
    pub(super) fn set_series(&self, outline: PathOutline, series: Rc<CachedPath>) {
        let known = &mut self.outlines.borrow_mut()[place(outline.0)];
        if known.outline == outline {
            known.series = Some(series);
        }
    }

    /// Whether one more path may be looked up now.
    #[cold]
    pub(super) fn may_look_up(&self, now: Moment) -> bool {
        let is_over = |began: Moment| now.since(began) >= PERIOD;
        if self.period_began.get().is_none_or(is_over) {
            self.period_began.set(Some(now));
            self.lookups.set(0);
        }
        let lookups = self.lookups.get() + 1;
        self.lookups.set(lookups);
        lookups <= MOST_LOOKUPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_class_is_remembered_and_corrected() {
        let guesses = EndpointGuesses::default();
        let [five, six, seventy] = ["/items/5", "/items/6", "/items/70"]
            .map(|path| (PathOutline::of("GET", path), PathClass::of("GET", path)));
        assert_eq!(guesses.get(five.0), None);
        assert_eq!(guesses.get_by_class(five.0, five.1), None);
        guesses.set(five.0, five.1, 7);
        guesses.set(five.0, five.1, 8);
        assert_eq!(guesses.get(six.0), Some(8));
        assert_eq!(guesses.get(seventy.0), None, "another outline");
        assert_eq!(guesses.get_by_class(seventy.0, seventy.1), Some(8));
        assert_eq!(guesses.get(seventy.0), Some(8), "of the same class");
    }

    #[test]
    fn look_ups_are_limited_in_each_period() {
        let guesses = EndpointGuesses::default();
        let now = clock::now();
        let allowed = (0..1000).filter(|_| guesses.may_look_up(now)).count();
        assert_eq!(allowed, MOST_LOOKUPS as usize);
        assert!(guesses.may_look_up(now.after(PERIOD)));
    }
}
