//! A visit passes on what the protobuf exposition shows: the same families, labels, values and exemplars.

use super::{rows::Fixed, *};

/// A visit, written out as the families of a protobuf exposition: what such a family says beside its help text.
#[derive(Default)]
struct Visit(Vec<(String, Vec<Series>)>, Option<MetricKind>);

#[derive(Debug, PartialEq)]
struct Series {
    labels: Vec<(String, String)>,
    created: Option<Duration>,
    timestamp: Option<i64>,
    value: SeriesValue,
}

#[derive(Debug, PartialEq)]
enum SeriesValue {
    Number(f64),
    Histogram {
        count: u64,
        sum: f64,
        /// Without the infinite one.
        classic: Vec<(f64, u64)>,
        native: Option<Native>,
        exemplars: Vec<(String, String, f64, Duration)>,
    },
    Summary {
        count: u64,
        sum: f64,
        quantiles: Vec<(f64, f64)>,
    },
}

#[derive(Debug, PartialEq)]
struct Native {
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    populated: Vec<(i32, u64)>,
}

impl Visitor for Visit {
    fn family(&mut self, family: &FamilyDescription) {
        self.0.push((family.name.clone(), Vec::new()));
        self.1 = Some(family.kind);
    }

    fn series(&mut self, series: VisitedSeries<'_>) {
        let value = match series.value {
            VisitedValue::Number(number) => SeriesValue::Number(number.as_f64()),
            VisitedValue::Histogram(histogram) => SeriesValue::Histogram {
                count: histogram.count(),
                sum: histogram.sum(),
                classic: (histogram.classic())
                    .filter(|(bound, _)| bound.is_finite())
                    .collect(),
                native: histogram.native().map(|native| Native {
                    schema: native.schema(),
                    zero_threshold: native.zero_threshold(),
                    zero_count: native.zero_count(),
                    populated: native.populated().collect(),
                }),
                exemplars: (histogram.exemplars())
                    .map(|exemplar| {
                        let SpanContext { trace_id, span_id } = exemplar.span;
                        let ids = (format!("{trace_id:032x}"), format!("{span_id:016x}"));
                        (ids.0, ids.1, exemplar.value, exemplar.at)
                    })
                    .collect(),
            },
            VisitedValue::Summary {
                count,
                sum,
                quantiles,
            } => SeriesValue::Summary {
                count,
                sum,
                quantiles: quantiles.to_vec(),
            },
        };
        let labels = series.labels;
        let (_, all) = self.0.last_mut().unwrap();
        all.push(Series {
            labels: labels.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            // Protobuf has no time of creation for a gauge.
            created: series.created.filter(|_| self.1 != Some(MetricKind::Gauge)),
            timestamp: series.timestamp,
            value,
        });
    }
}

fn time(timestamp: &schema::Timestamp) -> Duration {
    let seconds = u64::try_from(timestamp.seconds).unwrap();
    Duration::new(seconds, u32::try_from(timestamp.nanos).unwrap())
}

fn histogram(histogram: &schema::Histogram) -> SeriesValue {
    let native = histogram.schema.map(|schema| Native {
        schema,
        zero_threshold: histogram.zero_threshold(),
        zero_count: histogram.zero_count(),
        populated: (histogram.native_buckets().into_iter())
            .filter(|(_, count)| *count > 0)
            .collect(),
    });
    SeriesValue::Histogram {
        count: histogram.sample_count(),
        sum: histogram.sample_sum(),
        classic: (histogram.bucket.iter())
            .filter(|bucket| bucket.upper_bound().is_finite())
            .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
            .collect(),
        native,
        exemplars: (histogram.exemplars.iter())
            .map(|exemplar| {
                let id = |at: usize| exemplar.label[at].value().to_owned();
                let at = time(exemplar.timestamp.as_ref().unwrap());
                (id(0), id(1), exemplar.value(), at)
            })
            .collect(),
    }
}

/// The same of an exposition, decoded by other code than wrote it.
fn decoded(registry: &Registry) -> Vec<(String, Vec<Series>)> {
    let families = schema::decode(&registry.encode(Format::Protobuf));
    let series = |metric: &schema::Metric| {
        let number = (metric
            .gauge
            .as_ref()
            .or(metric.untyped.as_ref())
            .map(schema::Gauge::value))
        .or(metric.counter.as_ref().map(schema::Counter::value));
        let created = [
            metric
                .counter
                .as_ref()
                .and_then(|counter| counter.created_timestamp.as_ref()),
            metric
                .histogram
                .as_ref()
                .and_then(|histogram| histogram.created_timestamp.as_ref()),
        ];
        let summary = metric.summary.as_ref().map(|summary| SeriesValue::Summary {
            count: summary.sample_count(),
            sum: summary.sample_sum(),
            quantiles: (summary.quantile.iter())
                .map(|quantile| (quantile.quantile(), quantile.value()))
                .collect(),
        });
        Series {
            labels: (metric.label.iter())
                .map(|pair| (pair.name().to_owned(), pair.value().to_owned()))
                .collect(),
            created: created.into_iter().flatten().next().map(time),
            timestamp: metric.timestamp_ms,
            value: (number.map(SeriesValue::Number))
                .or(metric.histogram.as_ref().map(histogram))
                .or(summary)
                .unwrap(),
        }
    };
    families
        .iter()
        .map(|family| {
            let all = family.metric.iter().map(series).collect();
            (family.name().to_owned(), all)
        })
        .collect()
}

/// Rows of each kind that a collector may return.
fn each_kind() -> Vec<FamilyRows> {
    let mut stock = FamilyRows::new("stock", MetricKind::Gauge, "Stock.");
    stock.push([("article", "a \"b\"\\\n"), ("shelf", "")], -2.5);
    stock.push_at([("article", "old")], 1.0, 1_600_000_000_123);
    let mut sold = FamilyRows::new("sold_total", MetricKind::Counter, "Sold.");
    sold.push_single(7.0);
    let mut odd = FamilyRows::new("odd", MetricKind::Unknown, "Odd.");
    odd.push_single(1e300);
    let mut classic = FamilyRows::new("classic", MetricKind::Histogram, "Classic.");
    classic.push_single(HistogramSnapshot {
        count: 3,
        sum: 4.5,
        classic: vec![(1.0, 1), (2.0, 2)],
        ..HistogramSnapshot::default()
    });
    let mut ranks = FamilyRows::new("ranks", MetricKind::Summary, "Ranks.");
    ranks.push_single(RowValue::Summary {
        count: 2,
        sum: 3.0,
        quantiles: vec![(0.9, 2.0), (0.5, 1.0)],
    });
    vec![stock, sold, odd, classic, ranks]
}

#[test]
fn a_visit_passes_on_what_the_protobuf_exposition_shows() {
    let mut builder = Registry::builder(clock).constant_label("region", "größe \"eu\"");
    let requests = builder.counter(Descriptor::new("requests_total", "Requests.", ["path"]));
    let spent = builder.float_counter(Descriptor::new("spent_total", "Spent.", []));
    let active = builder.gauge(Descriptor::new("active", "Active.", []));
    let empty = builder.counter(Descriptor::new("empty_total", "Never counted.", ["path"]));
    let wait = builder.histogram(Descriptor::new("wait", "Waits.", ["path"]), &[0.5, 1.0]);
    let registry = builder.build().unwrap();
    registry.register(Fixed(each_kind())).unwrap();
    // More series than a walk copies at once, and values of more than one length byte.
    for number in 0..100_u64 {
        let path = format!("/{}", "x".repeat(usize::try_from(number).unwrap() * 3));
        requests.series([&path]).add(number);
    }
    spent.get().add(0.25);
    active.get().add(-3);
    for value in 0..2000_i32 {
        wait.series(["/"]).observe(f64::from(value) * 0.001);
    }
    let span = SpanContext {
        trace_id: u128::MAX - 1,
        span_id: 2,
    };
    wait.series(["/"]).observe_with(5.0, Some(&span));
    // Beyond the table of octaves.
    wait.series(["/far"]).observe(1e-30);
    wait.series(["/far"]).observe(f64::INFINITY);
    wait.series(["/unused"]);

    let collected: Vec<_> = registry.sources().iter().map(Source::read).collect();
    let mut visit = Visit::default();
    registry.visit(&collected, &mut visit);
    assert!(empty.is_empty());
    assert_eq!(
        visit
            .0
            .iter()
            .position(|(name, series)| name == "empty_total" && series.is_empty()),
        Some(3),
        "a family without series is passed on, in its place"
    );
    visit.0.retain(|(_, series)| !series.is_empty());
    let decoded = decoded(&registry);
    for (visited, decoded) in visit.0.iter().zip(&decoded) {
        assert_eq!(visited, decoded);
    }
    assert_eq!(visit.0.len(), decoded.len());
    let lengths: Vec<_> = visit
        .0
        .iter()
        .map(|(name, all)| (name.as_str(), all.len()))
        .collect();
    for expected in [
        ("requests_total", 100),
        ("wait", 3),
        ("stock", 2),
        ("ranks", 1),
    ] {
        assert!(lengths.contains(&expected), "{expected:?}: {lengths:?}");
    }
}
