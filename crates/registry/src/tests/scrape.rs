//! Tests whole expositions: the filter of names, the pieces they come in, and random families in every format.

use super::*;

#[test]
fn a_filter_shows_only_what_it_names() {
    let mut builder = Registry::builder(clock);
    builder.counter(Descriptor::new("a_total", "Help.", []));
    builder.gauge(Descriptor::new("b", "Help.", []));
    builder.histogram(Descriptor::new("c", "Help.", []), &[]);
    let registry = builder.build().unwrap();
    let sizes = summary(&[(0.5, 1.0)], 1, 1.0);
    let rows = vec![
        family("d", proto::MetricType::SUMMARY, vec![sizes]),
        family("e", proto::MetricType::COUNTER, vec![counter(1.0)]),
        gauges("f_info", &[(&[("version", "1")], 1.0)]),
        gauges("f", &[(&[], 1.0)]),
    ];
    let collect = move |read: &mut Vec<_>| {
        read.extend(rows.clone());
        Ok(())
    };
    registry.register(Rows("rows", collect)).unwrap();
    let of_c = vec!["c_bucket{le=\"+Inf\"}", "c_count", "c_sum"];
    let of_d = vec!["d_count", "d_sum", "d{quantile=\"0.5\"}"];
    for (names, expected) in [
        (vec!["a_created"], vec!["a_total"]),
        (vec!["c_bucket"], of_c.clone()),
        (vec!["c_sum", "c"], of_c.clone()),
        (vec!["c_count"], of_c.clone()),
        (vec!["c_created"], of_c),
        (vec!["d_count"], of_d.clone()),
        (vec!["d_sum"], of_d.clone()),
        (vec!["d"], of_d),
        (vec!["e_total"], vec!["e"]),
        (vec!["f_info"], vec!["f_info{version=\"1\"}"]),
        (vec!["f"], vec!["f"]),
        (
            vec!["a_bucket", "b_total", "c_total", "d_bucket", "_bucket", ""],
            vec![],
        ),
        (vec!["a_total"], vec!["a_total"]),
        (vec!["a"], vec!["a_total"]),
        (vec!["b", "nothing"], vec!["b"]),
        (vec!["nothing"], vec![]),
    ] {
        let mut out = Vec::new();
        let mut scrape = registry.scrape(Format::Text, &NameFilter::new(names));
        while scrape.next_chunk(&mut out) {}
        let written = samples(&String::from_utf8(out).unwrap());
        assert_eq!(written.into_keys().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_large_exposition_comes_in_pieces_that_make_up_the_whole() {
    let mut builder = Registry::builder(clock).max_series(5000);
    let wait = builder.histogram(Descriptor::new("wait", "Waits.", ["n"]), &[0.5, 1.0, 2.0]);
    let registry = builder.build().unwrap();
    (0..3000).for_each(|n| wait.series([&n.to_string()]).observe(1.0));
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let mut scrape = registry.scrape(format, &NameFilter::all());
        let (mut whole, mut pieces, mut more) = (Vec::new(), 0, true);
        while more {
            let mut piece = Vec::new();
            more = scrape.next_chunk(&mut piece);
            let most = if format == Format::Protobuf { 384 } else { 128 };
            assert!(piece.len() < most * 1024, "{format:?}: {}", piece.len());
            pieces += usize::from(!piece.is_empty());
            whole.extend(piece);
        }
        assert!(pieces > 1, "{format:?}");
        assert!(whole == registry.encode(format), "{format:?}");
    }
    assert_formats_agree(&registry);
}

#[test]
fn a_family_in_protobuf_is_preceded_by_its_length_whatever_that_is() {
    for series in [0, 1, 2, 3, 31, 32, 33, 270, 300, 3000, 30_000] {
        let mut builder = Registry::builder(clock).max_series(usize::MAX);
        let before = builder.gauge(Descriptor::new("before", "Before.", []));
        let things = builder.counter(Descriptor::new("things_total", "Things.", ["n"]));
        let after = builder.gauge(Descriptor::new("later", "Later.", []));
        let registry = builder.build().unwrap();
        before.get().set(1);
        after.get().set(2);
        (0..series).for_each(|n| things.series([&n.to_string()]).inc());
        let whole = registry.encode(Format::Protobuf);
        let families = schema::decode(&whole);
        let found = families
            .iter()
            .find(|family| family.name() == "things_total");
        assert_eq!(found.map_or(0, |family| family.metric.len()), series);
        assert!(families.iter().any(|family| family.name() == "later"));
        // A buffer with room is written to directly, whatever it contains.
        let mut out = Vec::with_capacity(8 << 20);
        out.push(7);
        let mut scrape = registry.scrape(Format::Protobuf, &NameFilter::all());
        while scrape.next_chunk(&mut out) {}
        assert_eq!((out[0], out[1..] == whole), (7, true), "{series}");
    }
}

proptest! {
    #[test]
    fn random_families_read_back_in_every_format(
        counters in proptest::collection::btree_map(["(?s).{0,12}", "[a\"\\\\\n]{0,4}"], any::<u32>(), 0..12),
        gauge in any::<i32>(),
        observed in proptest::collection::vec(prop_oneof![Just(0.0), 1e-6..1e6_f64], 0..50),
        native_buckets in 1_usize..50,
    ) {
        let mut builder = Registry::builder(clock).native_buckets(native_buckets);
        let things = builder.counter(Descriptor::new("things_total", "Help.", ["a", "b"]));
        let level = builder.gauge(Descriptor::new("level", "Help.", []));
        let sizes = builder.histogram(Descriptor::new("sizes", "Help.", []), &[0.001, 1.0, 1000.0]);
        let registry = builder.build().unwrap();
        for ([a, b], value) in &counters {
            things.series([a, b]).add(u64::from(*value));
        }
        level.get().add(i64::from(gauge));
        for value in &observed {
            sizes.get().observe(*value);
        }

        assert_formats_agree(&registry);
        let families = schema::decode(&registry.encode(Format::Protobuf));
        let found: BTreeMap<_, _> = (families.iter())
            .filter(|family| family.name() == "things_total")
            .flat_map(|family| &family.metric)
            .map(|metric| {
                let values = [metric.label[0].value(), metric.label[1].value()].map(str::to_owned);
                (values, metric.counter.as_ref().unwrap().value())
            })
            .collect();
        let expected: BTreeMap<_, _> = counters.into_iter().map(|(labels, value)| (labels, f64::from(value))).collect();
        prop_assert_eq!(found, expected);
        let written = samples(&text(&registry, Format::Text));
        prop_assert_eq!(&written["level"], &gauge.to_string());
        prop_assert_eq!(&written["sizes_count"], &observed.len().to_string());
    }
}
