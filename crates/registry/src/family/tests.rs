//! Finding and making series, and the budget.

use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::super::descriptor::sealed::Declare as _;
use super::super::descriptor::{Descriptor, MetricKind};
use super::*;

static CALLED: AtomicUsize = AtomicUsize::new(0);

fn family<const N: usize>(labels: [&str; N], max_series: usize) -> Family<Counter, N> {
    let (head, labels) = Descriptor::new("things_total", "Things.", labels).into_parts();
    let core = Core::new(
        Header::new(head.describe(MetricKind::Counter, &labels)),
        FamilySettings {
            clock: || Duration::from_secs(1),
            max_series,
            constant_labels: Vec::new(),
            on_overflow: Some(|_| {
                CALLED.fetch_add(1, Relaxed);
            }),
            omits_empty: false,
        },
        Meters::unexposed(),
        N == 0,
        || Counter::new(1),
    );
    Descriptor::family(&labels, core)
}

#[test]
fn values_that_only_differ_in_their_borders_are_two_series() {
    let family = family(["one", "two"], 10);
    family.series(["a", "bc"]).inc();
    family.series(["ab", "c"]).add(2);
    family.series(["a", "bc"]).add(4);
    assert_eq!(family.series(["a", "bc"]).value(), 5);
    assert_eq!(family.series(["ab", "c"]).value(), 2);
    assert_eq!(family.len(), 2);
}

#[test]
fn a_family_without_labels_has_its_series_from_the_start() {
    let family = family([], 0);
    assert_eq!(family.len(), 1);
    family.get().inc();
    assert_eq!(family.get().value(), 1);
}

#[test]
fn past_the_budget_everything_lands_in_one_series_and_is_counted() {
    let family = family(["one", "two"], 3);
    for value in ["a", "b", "c"] {
        assert!(matches!(
            family.try_series([value, ""]),
            Resolved::Series(_)
        ));
    }
    for n in 0..100 {
        let resolved = family.try_series([&n.to_string(), "x"]);
        assert!(matches!(resolved, Resolved::Overflow(_)));
        resolved.into_series().inc();
    }
    assert!(matches!(family.try_series(["b", ""]), Resolved::Series(_)));
    assert_eq!(family.series(["overflow", "overflow"]).value(), 100);
    assert_eq!(family.core.meters.overflow.value(), 100);
    assert_eq!(family.core.meters.series.value(), 3);
    assert_eq!(family.len(), 3);
    assert_eq!(CALLED.load(Relaxed), 1);
    let mut all = Vec::new();
    family.for_each(|values, counter| all.push((values.map(str::to_owned), counter.value())));
    assert_eq!(all.len(), 4);
    assert_eq!(
        all[3],
        (["overflow".to_owned(), "overflow".to_owned()], 100)
    );
}

#[test]
fn a_series_that_is_called_overflow_already_takes_in_the_rest() {
    let mut settings = family(["one"], 1);
    Arc::get_mut(&mut settings.core)
        .unwrap()
        .settings
        .on_overflow = None;
    let family = settings;
    family.series(["overflow"]).inc();
    family.series(["else"]).inc();
    let mut all = Vec::new();
    family.for_each(|values, counter| all.push((values.map(str::to_owned), counter.value())));
    assert_eq!(all, [(["overflow".to_owned()], 2)]);
}

#[test]
fn threads_that_race_for_new_series_make_each_once() {
    let family = family(["n"], 1000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..500 {
                    family.series([&n.to_string()]).inc();
                }
            });
        }
    });
    assert_eq!(family.len(), 500);
    family.for_each(|_, counter| assert_eq!(counter.value(), 4));
}

proptest! {
    #[test]
    fn every_label_set_is_a_series_of_its_own(sets in proptest::collection::vec(["[ab\"\\\\\n]{0,3}", "[ab,=\"]{0,3}"], 0..60)) {
        let family = family(["one", "two"], 1000);
        let mut expected = std::collections::BTreeMap::new();
        for [one, two] in &sets {
            family.series([one, two]).inc();
            *expected.entry([one.clone(), two.clone()]).or_insert(0_u64) += 1;
        }
        let mut found = std::collections::BTreeMap::new();
        family.for_each(|values, counter| {
            found.insert(values.map(str::to_owned), counter.value());
        });
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_label_that_is_not_shown_makes_no_series() {
    let family = family(["", "one", "", "two"], 10);
    family.series(["x", "a", "y", "b"]).inc();
    family.series(["z", "a", "", "b"]).inc();
    let mut all = Vec::new();
    family.for_each(|values, counter| all.push((values.map(str::to_owned), counter.value())));
    assert_eq!(all, [(["", "a", "", "b"].map(str::to_owned), 2)]);
    assert_eq!(family.core.labels(), ["one", "two"]);
}

#[test]
fn a_label_set_with_a_missing_value_is_counted_as_overflow() {
    struct Short;

    impl LabelSet for Short {
        const NAMES: &'static [&'static str] = &["one", "two"];

        fn values(&self) -> impl AsRef<[&str]> {
            ["a"]
        }
    }

    let mut positional = family(["one", "two"], 10);
    let core = Arc::get_mut(&mut positional.core).unwrap();
    core.settings.on_overflow = None;
    let family = LabelledFamily::<_, Short>::of(Arc::clone(&positional.core));
    family.series(&Short).inc();
    assert_eq!(positional.series(["overflow", "overflow"]).value(), 1);
}
