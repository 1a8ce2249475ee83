//! The escaping schemes against the examples of their specification, and expositions read back by a small parser.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::tests::{rows::Fixed, schema};
use crate::{
    Descriptor, FamilyRows, Format, Histogram, MediaType, MetricKind, NameFilter, Registry,
    RegistryError, Unit, negotiate_format,
};

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
const TEXT: &str = "text/plain;version=1.0.0";

fn media(kind: &str, scheme: Escaping) -> MediaType {
    let accept = format!("{kind};escaping={}", scheme.as_str());
    let media = negotiate_format(&[accept.as_bytes()]);
    assert_eq!(media.escaping(), scheme);
    media
}

fn clock() -> Duration {
    Duration::from_secs(1_700_000_000)
}

#[test]
fn names_are_escaped_as_specified() {
    for (name, underscores, dots, values) in [
        (
            "no_escaping:required",
            "no_escaping:required",
            "no_escaping:required",
            "no_escaping:required",
        ),
        (
            "mysystem.prod.west.cpu.load",
            "mysystem_prod_west_cpu_load",
            "mysystem_dot_prod_dot_west_dot_cpu_dot_load",
            "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load",
        ),
        (
            "mysystem.prod.west.cpu.load_total",
            "mysystem_prod_west_cpu_load_total",
            "mysystem_dot_prod_dot_west_dot_cpu_dot_load__total",
            "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load__total",
        ),
        (
            "http.status:sum",
            "http_status:sum",
            "http_dot_status:sum",
            "U__http_2e_status:sum",
        ),
        (
            "label with 😱",
            "label_with__",
            "label__with____",
            "U__label_20_with_20__1f631_",
        ),
        ("9 lives", "__lives", "____lives", "U___39__20_lives"),
        ("花火", "__", "____", "U___82b1__706b_"),
    ] {
        assert_eq!(Escaping::AllowUtf8.metric_name(name), name);
        assert_eq!(Escaping::Underscores.metric_name(name), underscores);
        assert_eq!(Escaping::Dots.metric_name(name), dots);
        assert_eq!(Escaping::Values.metric_name(name), values);
    }
    assert_eq!(Escaping::Underscores.label_name("a:b"), "a_b");
    assert_eq!(Escaping::Values.label_name("a:b"), "U__a_3a_b");
    assert_eq!(Escaping::Dots.label_name("a_b"), "a_b");
}

/// A counter, a histogram and a collector's gauge with names of all kinds.
fn registry() -> Registry {
    let mut builder = Registry::builder(clock)
        .created(true)
        .constant_label("service", "shop");
    let sizes = builder.counter(Descriptor::new(
        "größe_total",
        "A \"size\".",
        ["ключ", "plain"],
    ));
    let durations = builder.histogram(
        Descriptor::new(
            "http.server.duration_seconds",
            "Durations.",
            ["http.method"],
        )
        .unit(Unit::Seconds),
        &[0.5],
    );
    builder
        .gauge(Descriptor::new("plain", "Plain.", []))
        .series([] as [&str; 0])
        .set(1);
    sizes.series(["v\"1", "p"]).add(3);
    durations.series(["GET"]).observe(0.25);
    let registry = builder.build().unwrap();
    let mut level = FamilyRows::new("pegel", MetricKind::Gauge, "Level.");
    level.push([("fluss.name", "Spree"), ("ort", "Köln")], 2.5);
    registry.register(Fixed(vec![level])).unwrap();
    registry
}

/// The lines of an exposition but for those of the registry's own families.
fn lines(registry: &Registry, media: impl Into<MediaType>) -> Vec<String> {
    let text = String::from_utf8(registry.encode(media)).unwrap();
    let own = |line: &&str| !line.contains("vitals_");
    text.lines().filter(own).map(str::to_owned).collect()
}

#[test]
fn names_are_quoted_where_utf_8_is_allowed() {
    assert_eq!(
        lines(&registry(), media(TEXT, Escaping::AllowUtf8)),
        [
            "# HELP \"größe_total\" A \"size\".",
            "# TYPE \"größe_total\" counter",
            "{\"größe_total\",service=\"shop\",\"ключ\"=\"v\\\"1\",plain=\"p\"} 3",
            "# HELP \"http.server.duration_seconds\" Durations.",
            "# TYPE \"http.server.duration_seconds\" histogram",
            "{\"http.server.duration_seconds_bucket\",service=\"shop\",\"http.method\"=\"GET\",le=\"0.5\"} 1",
            "{\"http.server.duration_seconds_bucket\",service=\"shop\",\"http.method\"=\"GET\",le=\"+Inf\"} 1",
            "{\"http.server.duration_seconds_sum\",service=\"shop\",\"http.method\"=\"GET\"} 0.25",
            "{\"http.server.duration_seconds_count\",service=\"shop\",\"http.method\"=\"GET\"} 1",
            "# HELP plain Plain.",
            "# TYPE plain gauge",
            "plain{service=\"shop\"} 1",
            "# HELP pegel Level.",
            "# TYPE pegel gauge",
            "pegel{\"fluss.name\"=\"Spree\",ort=\"Köln\",service=\"shop\"} 2.5",
        ]
    );
    assert_eq!(
        lines(&registry(), media(OPENMETRICS, Escaping::AllowUtf8))[..5],
        [
            "# TYPE \"größe\" counter",
            "# HELP \"größe\" A \\\"size\\\".",
            "{\"größe_total\",service=\"shop\",\"ключ\"=\"v\\\"1\",plain=\"p\"} 3",
            "{\"größe_created\",service=\"shop\",\"ключ\"=\"v\\\"1\",plain=\"p\"} 1700000000",
            "# TYPE \"http.server.duration_seconds\" histogram",
        ]
    );
}

#[test]
fn old_clients_get_underscores_and_the_others_what_they_ask_for() {
    let registry = registry();
    let expected = [
        "# HELP gr__e_total A \"size\".",
        "# TYPE gr__e_total counter",
        "gr__e_total{service=\"shop\",____=\"v\\\"1\",plain=\"p\"} 3",
        "# HELP http_server_duration_seconds Durations.",
        "# TYPE http_server_duration_seconds histogram",
        "http_server_duration_seconds_bucket{service=\"shop\",http_method=\"GET\",le=\"0.5\"} 1",
    ];
    assert_eq!(lines(&registry, Format::Text)[..6], expected);
    let old = negotiate_format(&[b"text/plain;version=0.0.4;escaping=allow-utf-8"]);
    assert_eq!(lines(&registry, old)[..6], expected, "0.0.4 quotes no name");
    let dots = lines(&registry, media(OPENMETRICS, Escaping::Dots));
    assert_eq!(
        dots[4..8],
        [
            "# TYPE http_dot_server_dot_duration__seconds histogram",
            "# UNIT http_dot_server_dot_duration__seconds seconds",
            "# HELP http_dot_server_dot_duration__seconds Durations.",
            "http_dot_server_dot_duration__seconds_bucket{service=\"shop\",http_dot_method=\"GET\",le=\"0.5\"} 1",
        ]
    );
    let values = lines(&registry, media(TEXT, Escaping::Values));
    assert_eq!(values[1], "# TYPE U__gr_f6__df_e__total counter");
    assert_eq!(
        values.last().unwrap(),
        "pegel{U__fluss_2e_name=\"Spree\",ort=\"Köln\",service=\"shop\"} 2.5"
    );
}

#[test]
fn protobuf_has_the_names_that_were_asked_for() {
    let registry = registry();
    for (scheme, family, label) in [
        (
            Escaping::AllowUtf8,
            "http.server.duration_seconds",
            "http.method",
        ),
        (
            Escaping::Underscores,
            "http_server_duration_seconds",
            "http_method",
        ),
        (
            Escaping::Dots,
            "http_dot_server_dot_duration__seconds",
            "http_dot_method",
        ),
        (
            Escaping::Values,
            "U__http_2e_server_2e_duration__seconds",
            "U__http_2e_method",
        ),
    ] {
        let families = schema::decode(&registry.encode(media(PROTOBUF, scheme)));
        let found = families.iter().find(|one| one.name() == family).unwrap();
        let labels: Vec<_> = found.metric[0]
            .label
            .iter()
            .map(schema::LabelPair::name)
            .collect();
        assert_eq!(labels, ["service", label]);
    }
    let plain = registry.encode(Format::Protobuf);
    assert_eq!(
        plain,
        registry.encode(media(PROTOBUF, Escaping::Underscores))
    );
}

#[test]
fn each_series_has_its_own_labels_escaped() {
    let registry = Registry::builder(clock).build().unwrap();
    let mut family = FamilyRows::new("mixed", MetricKind::Gauge, "Mixed.");
    for labels in [["a.a", "b.b"], ["a.a", "c.c"], ["b.b", "c.c"]] {
        family.push(labels.map(|name| (name, "v")), 1.0);
    }
    registry.register(Fixed(vec![family])).unwrap();
    assert_eq!(
        lines(&registry, Format::Text)[2..],
        [
            "mixed{a_a=\"v\",b_b=\"v\"} 1",
            "mixed{a_a=\"v\",c_c=\"v\"} 1",
            "mixed{b_b=\"v\",c_c=\"v\"} 1",
        ]
    );
}

#[test]
fn a_name_in_utf_8_is_known_with_underscores_as_well() {
    let registry = registry();
    let duration = "http.server.duration_seconds";
    for (sample, label) in [
        (format!("{duration}_count"), "http.method"),
        (format!("{duration}_count"), "http_method"),
        (
            "http_server_duration_seconds_count".to_owned(),
            "http_method",
        ),
    ] {
        let value = registry.value(&sample, &[(label, "GET")]);
        assert_eq!(value, Some(1.0), "{sample} {label}");
    }
    assert_eq!(registry.value("http_server_duration_seconds", &[]), None);
    assert_eq!(registry.value("gr__e_total", &[]), Some(3.0));
    for name in [duration, "http_server_duration_seconds"] {
        assert!(registry.family::<Histogram, 1>(name).is_some(), "{name}");
    }
    assert!(registry.family::<Histogram, 1>("http_server").is_none());
    let series = ("family", "http_server_duration_seconds");
    assert_eq!(registry.value("vitals_series", &[series]), Some(1.0));

    for name in [
        duration,
        "http_server_duration_seconds_bucket",
        "http_dot_server_dot_duration__seconds",
        "U__http_2e_server_2e_duration__seconds_sum",
    ] {
        let mut out = Vec::new();
        let mut scrape = registry.scrape(Format::Text, &NameFilter::new([name]));
        while scrape.next_chunk(&mut out) {}
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("# HELP http_server_duration"), "{name}");
        assert_eq!(text.matches("# TYPE").count(), 1, "{name}");
    }
}

#[test]
fn names_that_a_scheme_makes_the_same_are_rejected() {
    let build = |names: [&str; 2]| {
        let mut builder = Registry::builder(clock);
        for name in names {
            builder.gauge(Descriptor::new(name, "Help.", []));
        }
        builder.build().map(drop)
    };
    for names in [
        ["a_b", "a.b"],
        ["a.b", "a b"],
        ["a.b", "a_dot_b"],
        ["a.b", "U__a_2e_b"],
    ] {
        assert!(
            matches!(build(names), Err(RegistryError::DuplicateFamily { .. })),
            "{names:?}"
        );
    }
    assert_eq!(build(["a.b", "a.c"]), Ok(()));
    for labels in [["a_b", "a.b"], ["é", "è"]] {
        let mut builder = Registry::builder(clock);
        builder.gauge(Descriptor::new("a", "Help.", labels));
        assert!(
            matches!(builder.build(), Err(RegistryError::DuplicateLabel { .. })),
            "{labels:?}"
        );
    }
    let mut builder = Registry::builder(clock);
    builder.gauge(Descriptor::new("a", "Help.", ["é.name.é"]));
    assert!(
        matches!(builder.build(), Err(RegistryError::InvalidLabel { .. })),
        "underscores make __name__ of it"
    );
    let constant = Registry::builder(clock)
        .constant_label("größe", "1")
        .build();
    assert!(matches!(constant, Err(RegistryError::InvalidLabel { .. })));
}

/// The name and the labels of a line in which the name is quoted.
fn parse(line: &str) -> (String, Vec<(String, String)>) {
    let mut rest = line.strip_prefix('{').unwrap();
    let name = take_quoted(&mut rest);
    let mut labels = Vec::new();
    while let Some(tail) = rest.strip_prefix(',') {
        rest = tail;
        let label = if rest.starts_with('"') {
            take_quoted(&mut rest)
        } else {
            let (bare, tail) = rest.split_once('=').unwrap();
            rest = &rest[rest.len() - tail.len() - 1..];
            bare.to_owned()
        };
        rest = rest.strip_prefix('=').unwrap();
        labels.push((label, take_quoted(&mut rest)));
    }
    assert!(rest.starts_with("} "), "{line}");
    (name, labels)
}

fn take_quoted(rest: &mut &str) -> String {
    let mut out = String::new();
    let mut chars = rest.strip_prefix('"').unwrap().char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                *rest = &rest[at + 2..];
                return out;
            }
            '\\' => out.push(match chars.next().unwrap().1 {
                'n' => '\n',
                other => other,
            }),
            c => out.push(c),
        }
    }
    panic!("a quote that does not end: {rest}");
}

proptest! {
    #[test]
    fn any_name_is_read_back_where_utf_8_is_allowed(name in "(?s).{1,12}", label in "(?s).{1,12}", value in "(?s).{0,12}") {
        let mut builder = Registry::builder(clock);
        let gauge = builder.gauge(Descriptor::new(name.clone(), "Help.", [label.as_str()]));
        gauge.series([value.as_str()]).set(1);
        let Ok(registry) = builder.build() else {
            return Ok(());
        };
        let text = String::from_utf8(registry.encode(media(TEXT, Escaping::AllowUtf8))).unwrap();
        let line = text.lines().nth(2).unwrap();
        if !is_metric_name(&name) {
            prop_assert_eq!(parse(line), (name, vec![(label, value)]));
        }
    }

    #[test]
    fn every_scheme_makes_a_name_of_the_old_grammar(name in "(?s).{1,12}") {
        for scheme in Escaping::CHANGING {
            prop_assert!(is_metric_name(&scheme.metric_name(&name)));
            let label = scheme.label_name(&name);
            prop_assert!(is_metric_name(&label) && !label.contains(':'));
        }
    }

    #[test]
    fn values_keep_different_names_different(names in proptest::collection::btree_set("(?s).{1,4}", 1..20)) {
        let escaped: BTreeSet<_> = names.iter().map(|name| Escaping::Values.metric_name(name)).collect();
        let clash = names.iter().any(|name| name.starts_with("U__"));
        prop_assert!(clash || escaped.len() == names.len());
    }
}
