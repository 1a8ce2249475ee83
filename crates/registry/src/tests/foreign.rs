//! Tests faulty rows of collectors: the output of each format, and the reported faults.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

thread_local! {
    /// The faults that the registries of this thread have reported: collector, family and kind.
    static FAULTS: RefCell<Vec<(String, String, FaultKind)>> = const { RefCell::new(Vec::new()) };
}

fn keep_fault(collector: &str, fault: &Fault) {
    let family = fault.family().unwrap_or_default().to_owned();
    let kept = (collector.to_owned(), family, fault.kind());
    FAULTS.with_borrow_mut(|faults| faults.push(kept));
}

/// Returns the faults reported since the last call.
fn new_faults() -> Vec<(String, String, FaultKind)> {
    let mut faults = FAULTS.take();
    faults.sort_by_key(|(collector, family, kind)| {
        (collector.clone(), family.clone(), format!("{kind:?}"))
    });
    faults
}

/// A registry with one collector, named `foreign`, of these rows.
fn registry_of(rows: Vec<proto::MetricFamily>) -> Registry {
    let registry = Registry::builder(clock).on_fault(keep_fault);
    let registry = registry.build().unwrap();
    let collect = move |read: &mut Vec<_>| {
        read.extend(rows.clone());
        Ok(())
    };
    registry.register(Rows("foreign", collect)).unwrap();
    registry
}

/// The samples of this registry that are not its own, in a text format.
fn foreign_samples(registry: &Registry, format: Format) -> Vec<(String, String)> {
    let mut samples = samples(&text(registry, format));
    samples.retain(|series, _| !series.starts_with("vitals_"));
    samples.into_iter().collect()
}

fn pairs<const N: usize>(samples: [(&str, &str); N]) -> Vec<(String, String)> {
    let owned = |(series, value): (&str, &str)| (series.to_owned(), value.to_owned());
    samples.map(owned).to_vec()
}

fn errors_of(registry: &Registry, collector: &str) -> String {
    let series = format!("vitals_collector_errors_total{{collector=\"{collector}\"}}");
    samples(&text(registry, Format::Text))[&series].clone()
}

/// Families with every number that a value may be.
fn rows_of_all_numbers() -> Vec<proto::MetricFamily> {
    let infinite = f64::INFINITY;
    vec![
        family(
            "a_histogram",
            proto::MetricType::HISTOGRAM,
            vec![histogram(&[(1.0, 2)], 3, -1.5)],
        ),
        family(
            "b_histogram",
            proto::MetricType::HISTOGRAM,
            vec![histogram(&[], 1, f64::NAN)],
        ),
        family(
            "c_histogram",
            proto::MetricType::HISTOGRAM,
            vec![histogram(&[(-1.0, 1)], 1, 2.0)],
        ),
        family(
            "d_histogram",
            proto::MetricType::HISTOGRAM,
            vec![histogram(&[], 1, infinite)],
        ),
        family(
            "e_summary",
            proto::MetricType::SUMMARY,
            vec![summary(&[(0.5, -2.0)], 2, -4.0)],
        ),
        family(
            "f_summary",
            proto::MetricType::SUMMARY,
            vec![summary(&[(0.5, f64::NAN)], 0, f64::NAN)],
        ),
        family("g_total", proto::MetricType::COUNTER, vec![counter(-1.0)]),
        family(
            "h_total",
            proto::MetricType::COUNTER,
            vec![counter(f64::NAN)],
        ),
        family(
            "i_total",
            proto::MetricType::COUNTER,
            vec![counter(infinite)],
        ),
        gauges(
            "j",
            &[
                (&[("of", "nothing")], f64::NAN),
                (&[("of", "less")], -infinite),
            ],
        ),
    ]
}

#[test]
fn values_that_openmetrics_forbids_are_in_the_other_formats() {
    let registry = registry_of(rows_of_all_numbers());
    let everywhere = pairs([
        ("a_histogram_bucket{le=\"+Inf\"}", "3"),
        ("a_histogram_bucket{le=\"1\"}", "2"),
        ("a_histogram_count", "3"),
        ("a_histogram_sum", "-1.5"),
        ("b_histogram_bucket{le=\"+Inf\"}", "1"),
        ("b_histogram_count", "1"),
        ("b_histogram_sum", "NaN"),
        ("c_histogram_bucket{le=\"+Inf\"}", "1"),
        ("c_histogram_bucket{le=\"-1\"}", "1"),
        ("c_histogram_count", "1"),
        ("c_histogram_sum", "2"),
        ("d_histogram_bucket{le=\"+Inf\"}", "1"),
        ("d_histogram_count", "1"),
        ("d_histogram_sum", "+Inf"),
        ("e_summary_count", "2"),
        ("e_summary_sum", "-4"),
        ("e_summary{quantile=\"0.5\"}", "-2"),
        ("f_summary_count", "0"),
        ("f_summary_sum", "NaN"),
        ("f_summary{quantile=\"0.5\"}", "NaN"),
        ("g_total", "-1"),
        ("h_total", "NaN"),
        ("i_total", "+Inf"),
        ("j{of=\"less\"}", "-Inf"),
        ("j{of=\"nothing\"}", "NaN"),
    ]);
    assert_eq!(foreign_samples(&registry, Format::Text), everywhere);
    let mut protobuf = protobuf_samples(&registry);
    protobuf.retain(|series, _| !series.starts_with("vitals_"));
    assert_eq!(protobuf.into_iter().collect::<Vec<_>>(), everywhere);
    assert_eq!(new_faults(), [], "no format has left anything out");

    let openmetrics = pairs([
        ("a_histogram_bucket{le=\"+Inf\"}", "3"),
        ("a_histogram_bucket{le=\"1.0\"}", "2"),
        ("b_histogram_bucket{le=\"+Inf\"}", "1"),
        ("c_histogram_bucket{le=\"+Inf\"}", "1"),
        ("c_histogram_bucket{le=\"-1.0\"}", "1"),
        ("d_histogram_bucket{le=\"+Inf\"}", "1"),
        ("d_histogram_count", "1"),
        ("d_histogram_sum", "+Inf"),
        ("e_summary_count", "2"),
        ("f_summary_count", "0"),
        ("f_summary{quantile=\"0.5\"}", "NaN"),
        ("i_total", "+Inf"),
        ("j{of=\"less\"}", "-Inf"),
        ("j{of=\"nothing\"}", "NaN"),
    ]);
    for _ in 0..2 {
        assert_eq!(foreign_samples(&registry, Format::OpenMetrics), openmetrics);
    }
    let reported = |family: &str, kind| ("foreign".to_owned(), family.to_owned(), kind);
    assert_eq!(
        new_faults(),
        [
            reported("a_histogram", FaultKind::NegativeSum),
            reported("b_histogram", FaultKind::NegativeSum),
            reported("c_histogram", FaultKind::NegativeSum),
            reported("e_summary", FaultKind::NegativeQuantile),
            reported("e_summary", FaultKind::NegativeSum),
            reported("f_summary", FaultKind::NegativeSum),
            reported("g_total", FaultKind::NegativeCounter),
            reported("h_total", FaultKind::NegativeCounter),
        ],
        "each once in two scrapes"
    );
    assert_eq!(
        errors_of(&registry, "foreign"),
        "0",
        "the format is to blame"
    );
}

#[test]
fn histograms_and_summaries_are_put_in_order() {
    let quantiles = [
        (0.9, 3.0),
        (0.5, 2.0),
        (1.5, 9.0),
        (f64::NAN, 9.0),
        (0.9, 4.0),
    ];
    let registry = registry_of(vec![
        family(
            "a",
            proto::MetricType::HISTOGRAM,
            vec![histogram(
                &[(f64::INFINITY, 5), (1.0, 4), (-0.5, 1), (1.0, 4)],
                5,
                1.0,
            )],
        ),
        family(
            "b",
            proto::MetricType::SUMMARY,
            vec![summary(&quantiles, 2, 5.0)],
        ),
    ]);
    let exposition = text(&registry, Format::Text);
    let foreign: Vec<_> = exposition
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("vitals_"))
        .collect();
    assert_eq!(
        foreign,
        [
            "a_bucket{le=\"-0.5\"} 1",
            "a_bucket{le=\"1\"} 4",
            "a_bucket{le=\"+Inf\"} 5",
            "a_sum 1",
            "a_count 5",
            "b{quantile=\"0.5\"} 2",
            "b{quantile=\"0.9\"} 3",
            "b_sum 5",
            "b_count 2",
        ]
    );
    let reported = (
        "foreign".to_owned(),
        "b".to_owned(),
        FaultKind::InvalidQuantile,
    );
    assert_eq!(new_faults(), [reported]);
}

#[test]
fn families_that_clash_in_openmetrics_alone_are_both_in_the_other_formats() {
    for (first, second) in [
        (
            gauges("jobs", &[(&[], 1.0)]),
            family("jobs_total", proto::MetricType::COUNTER, vec![counter(2.0)]),
        ),
        (
            family("jobs_total", proto::MetricType::COUNTER, vec![counter(2.0)]),
            gauges("jobs", &[(&[], 1.0)]),
        ),
        (
            family("jobs", proto::MetricType::COUNTER, vec![counter(1.0)]),
            family("jobs_total", proto::MetricType::COUNTER, vec![counter(2.0)]),
        ),
        (
            family("jobs_total", proto::MetricType::COUNTER, vec![counter(2.0)]),
            gauges("jobs_created", &[(&[], 1.0)]),
        ),
    ] {
        let [kept, given_way] = [&first, &second].map(|family| family.name().to_owned());
        let registry = registry_of(vec![first, second]);
        let names = |samples: Vec<(String, String)>| -> Vec<String> {
            samples.into_iter().map(|(series, _)| series).collect()
        };
        let mut both = [kept.clone(), given_way.clone()];
        both.sort();
        assert_eq!(names(foreign_samples(&registry, Format::Text)), both);
        let protobuf = protobuf_samples(&registry);
        assert!(
            both.iter().all(|name| protobuf.contains_key(name)),
            "{both:?}"
        );
        assert_eq!(new_faults(), []);

        for _ in 0..2 {
            let openmetrics = foreign_samples(&registry, Format::OpenMetrics);
            let base = |name: &str| name.trim_end_matches("_total").to_owned();
            let [(only, _)] = &openmetrics[..] else {
                panic!("{openmetrics:?}");
            };
            assert_eq!(base(only), base(&kept));
        }
        let kind = FaultKind::NameTakenInOpenMetrics;
        assert_eq!(new_faults(), [("foreign".to_owned(), given_way, kind)]);
        assert_eq!(errors_of(&registry, "foreign"), "0");
    }
}

#[test]
fn a_fault_is_reported_by_its_family_and_kind_once() {
    let mut broken = vec![
        family("_total", proto::MetricType::COUNTER, vec![counter(1.0)]),
        gauges("labels", &[(&[("a", ""), ("a", "")], 1.0)]),
        gauges("series", &[(&[("a", "1")], 1.0), (&[("a", "1")], 2.0)]),
        gauges("empty", &[(&[("a", "")], 1.0), (&[], 2.0)]),
        gauges("vitals_series", &[(&[], 1.0)]),
        family(
            "buckets",
            proto::MetricType::HISTOGRAM,
            vec![histogram(&[(1.0, 2)], 1, 1.0)],
        ),
        gauges("twice", &[(&[], 1.0)]),
        family("twice", proto::MetricType::COUNTER, vec![counter(1.0)]),
    ];
    broken.extend((0..100).map(|n| {
        let name = format!("{n}{}", "x".repeat(500));
        gauges(&name, &[(&[("__x", "")], 1.0)])
    }));
    let registry = registry_of(broken);
    for format in [Format::Text, Format::Protobuf, Format::OpenMetrics] {
        registry.encode(format);
    }
    let faults = new_faults();
    assert_eq!(faults.len(), 64, "bounded");
    assert!(faults.iter().all(|(_, family, _)| family.len() <= 120));
    let named: Vec<_> = faults
        .iter()
        .filter(|(_, family, _)| !family.ends_with("xx"))
        .map(|(_, family, kind)| (family.as_str(), *kind))
        .collect();
    assert_eq!(
        named,
        [
            ("_total", FaultKind::InvalidName),
            ("buckets", FaultKind::InvalidBuckets),
            ("empty", FaultKind::DuplicateSeries),
            ("labels", FaultKind::InvalidLabels),
            ("series", FaultKind::DuplicateSeries),
            ("twice", FaultKind::NameTaken),
            ("vitals_series", FaultKind::NameTaken),
        ]
    );
    assert_eq!(errors_of(&registry, "foreign"), "4", "with this scrape");
}

#[test]
fn an_error_is_reported_anew_after_a_reading_without_one() {
    let registry = Registry::builder(clock)
        .on_fault(keep_fault)
        .build()
        .unwrap();
    let reading = Arc::new(AtomicUsize::new(0));
    let collect = move |_: &mut Vec<_>| match reading.fetch_add(1, Ordering::Relaxed) {
        0 | 1 | 4 => Err("unreadable".into()),
        3 => panic!("as it must"),
        _ => Ok(()),
    };
    registry.register(Rows("errs", collect)).unwrap();
    let reported: Vec<_> = (0..5)
        .map(|_| {
            registry.encode(Format::Text);
            let new = new_faults();
            new.into_iter().map(|(.., kind)| kind).next()
        })
        .collect();
    let (failed, panicked) = (Some(FaultKind::Failed), Some(FaultKind::Panicked));
    assert_eq!(reported, [failed, None, None, panicked, failed]);
}

#[test]
fn a_family_in_several_parts_is_written_as_one() {
    let registry = registry_of(vec![
        gauges("parts", &[(&[("a", "1")], 1.0)]),
        gauges("other", &[(&[], 1.0)]),
        gauges("parts", &[(&[("a", "2")], 2.0)]),
    ]);
    let exposition = text(&registry, Format::Text);
    assert_eq!(exposition.matches("# TYPE parts gauge\n").count(), 1);
    assert!(
        exposition.contains("parts{a=\"1\"} 1\nparts{a=\"2\"} 2\n"),
        "{exposition}"
    );
    assert_formats_agree(&registry);
    assert_eq!(new_faults(), []);
}

/// A collector of the `prometheus` crate that counts its readings, and panics on request.
struct Stranger {
    desc: prometheus::core::Desc,
    collected: Arc<AtomicUsize>,
    panics: bool,
}

impl Stranger {
    fn new(name: &str, panics: bool) -> (Self, Arc<AtomicUsize>) {
        let labels = vec!["a".to_owned()];
        let desc = prometheus::core::Desc::new(
            name.to_owned(),
            "Help.".to_owned(),
            labels,
            HashMap::new(),
        );
        let collected = Arc::new(AtomicUsize::new(0));
        let stranger = Self {
            desc: desc.unwrap(),
            collected: Arc::clone(&collected),
            panics,
        };
        (stranger, collected)
    }
}

impl prometheus::core::Collector for Stranger {
    fn desc(&self) -> Vec<&prometheus::core::Desc> {
        assert!(!self.panics, "while it is described");
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        self.collected.fetch_add(1, Ordering::Relaxed);
        vec![gauges(&self.desc.fq_name, &[(&[("a", "1")], 1.0)])]
    }
}

#[test]
fn a_collector_that_panics_while_it_describes_itself_is_isolated() {
    struct Indescribable;

    impl Collector for Indescribable {
        fn name(&self) -> &'static str {
            "indescribable"
        }

        fn describe(&self) -> Vec<FamilyDescription> {
            panic!("while it is described")
        }

        fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
            let mut row = FamilyRows::new("read_all_the_same", MetricKind::Gauge, "Help.");
            row.push_single(1.0);
            rows.push(row);
            Ok(())
        }
    }

    let registry = Registry::builder(clock)
        .on_fault(keep_fault)
        .build()
        .unwrap();
    registry.register(Indescribable).unwrap();
    let (stranger, _) = Stranger::new("strange", true);
    registry
        .register_prometheus("stranger", Box::new(stranger))
        .unwrap();
    let reported = |name: &str| {
        (
            name.to_owned(),
            String::new(),
            FaultKind::PanickedDescribing,
        )
    };
    assert_eq!(
        new_faults(),
        [reported("indescribable"), reported("stranger")]
    );
    assert!(
        registry
            .describe()
            .iter()
            .all(|family| family.name.starts_with("vitals_"))
    );
    assert_eq!(
        registry.read_levels(["read_all_the_same", "strange"]),
        [None, None]
    );
    let expected = pairs([("read_all_the_same", "1"), ("strange{a=\"1\"}", "1")]);
    assert_eq!(foreign_samples(&registry, Format::Text), expected);
    assert_eq!(errors_of(&registry, "indescribable"), "1");
    assert_eq!(errors_of(&registry, "stranger"), "1");
    assert_eq!(new_faults(), []);
}

#[test]
fn a_scrape_alone_reads_the_collectors_of_strangers() {
    let registry = Registry::builder(clock).build().unwrap();
    let (stranger, collected) = Stranger::new("strange_bytes", false);
    registry
        .register_prometheus("stranger", Box::new(stranger))
        .unwrap();
    let (embedded, collected_embedded) = Stranger::new("embedded", false);
    registry.prometheus().register(Box::new(embedded)).unwrap();
    let described = || -> Vec<_> {
        let families = registry.describe().into_iter();
        families
            .filter(|family| !family.name.starts_with("vitals_"))
            .map(|family| (family.name, family.kind, family.unit, family.labels))
            .collect()
    };
    let labels = vec!["a".to_owned()];
    let strange = |kind| {
        (
            "strange_bytes".to_owned(),
            kind,
            Unit::Bytes,
            labels.clone(),
        )
    };
    assert_eq!(described(), [strange(MetricKind::Unknown)]);
    assert_eq!(
        registry.read_levels(["strange_bytes", "embedded"]),
        [None, None]
    );
    let read = || [&collected, &collected_embedded].map(|read| read.load(Ordering::Relaxed));
    assert_eq!(read(), [0, 0]);

    registry.encode(Format::Text);
    assert_eq!(read(), [1, 1]);
    let embedded = (
        "embedded".to_owned(),
        MetricKind::Gauge,
        Unit::None,
        labels.clone(),
    );
    assert_eq!(described(), [strange(MetricKind::Gauge), embedded]);
    assert_eq!(
        registry.read_levels(["strange_bytes", "embedded"]),
        [None, None]
    );
    assert_eq!(read(), [1, 1]);
}
