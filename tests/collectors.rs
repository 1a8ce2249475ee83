//! Collectors of adopters that fail, hang or panic, beside the live page. A process of its own, because all of its tests share
//! the log.

#![allow(clippy::expect_used, reason = "a test may panic")]

mod support;

use std::{
    collections::HashMap,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_vitals::{
    Vitals,
    ops::OpsSettings,
    registry::{Collector, FamilyDescription, FamilyRows, Format},
};
use actix_web::{
    App,
    test::{TestRequest, call_and_read_body, init_service},
};
use prometheus::{IntCounter, IntGauge, core::Desc, proto::MetricFamily};
use support::{log::Log, wait};
use tracing::Level;

/// Panics while it describes itself, and counts how often it is read.
struct Indescribable(Arc<AtomicUsize>);

impl prometheus::core::Collector for Indescribable {
    fn desc(&self) -> Vec<&Desc> {
        panic!("not to be described")
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let gauge = IntGauge::new("indescribable", "Help.").expect("a gauge");
        prometheus::core::Collector::collect(&gauge)
    }
}

/// Describes a family that the live page shows, and counts how often it is read.
struct Impostor {
    desc: Desc,
    read: Arc<AtomicUsize>,
}

impl prometheus::core::Collector for Impostor {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read.fetch_add(1, Ordering::SeqCst);
        let gauge = IntGauge::new("process_open_fds", "Help.").expect("a gauge");
        prometheus::core::Collector::collect(&gauge)
    }
}

/// Cannot read its values.
struct Failing;

impl Collector for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        Vec::new()
    }

    fn collect(&self, _: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err("the warehouse\nat \"s3cret\" does not answer".into())
    }
}

#[actix_web::test]
async fn collectors_are_isolated_read_by_scrapes_alone_and_named_in_the_log() {
    let log = Log::of_process(Level::WARN);
    let vitals = Vitals::builder()
        .ops(OpsSettings::new().with_dashboard())
        .build();
    let vitals = vitals.expect("defaults build");
    let registry = vitals.registry();
    let read = Arc::new(AtomicUsize::new(0));
    let indescribable = Box::new(Indescribable(Arc::clone(&read)));
    registry
        .register_prometheus("indescribable", indescribable)
        .expect("it is isolated");
    let impostor = Box::new(Impostor {
        desc: Desc::new(
            "process_open_fds".to_owned(),
            "Help.".to_owned(),
            Vec::new(),
            HashMap::new(),
        )
        .expect("a description"),
        read: Arc::clone(&read),
    });
    registry
        .register_prometheus("impostor", impostor)
        .expect("a new name");
    registry.register(Failing).expect("a new name");
    let embedded = registry.prometheus();
    let gauge = IntGauge::new("jobs", "Help.").expect("a gauge");
    let counter = IntCounter::new("jobs_total", "Help.").expect("a counter");
    embedded.register(Box::new(gauge)).expect("a new name");
    embedded.register(Box::new(counter)).expect("a new name");

    let app = init_service(App::new().configure(vitals.ops())).await;
    let last = async || {
        let request = TestRequest::with_uri("/dashboard/history?since=-1").to_request();
        let history = call_and_read_body(&app, request).await;
        let history: serde_json::Value = serde_json::from_slice(&history).expect("a history");
        history["last"].as_u64().expect("the last tick")
    };
    let first = last().await;
    wait::until("three ticks", Duration::from_secs(60), async || {
        let ticks = last().await - first;
        (ticks >= 3).then_some(()).ok_or(format!("{ticks} ticks"))
    })
    .await;
    assert_eq!(read.load(Ordering::SeqCst), 0, "by a tick");

    let expositions = [
        Format::Text,
        Format::OpenMetrics,
        Format::Text,
        Format::OpenMetrics,
    ]
    .map(|format| String::from_utf8(registry.encode(format)).expect("UTF-8"));
    assert_eq!(
        read.load(Ordering::SeqCst),
        8,
        "two in each of four scrapes"
    );
    for (exposition, both) in expositions.iter().zip([true, false, true, false]) {
        assert!(exposition.contains("\njobs 0\n"));
        assert_eq!(exposition.contains("\njobs_total 0\n"), both);
        assert!(exposition.contains("\nindescribable 0\n"));
    }
    let errors = |collector: &str| {
        let line = format!("vitals_collector_errors_total{{collector=\"{collector}\"}} ");
        let found = expositions[3]
            .lines()
            .find_map(|text| text.strip_prefix(&line));
        found.expect("a counter").to_owned()
    };
    let [described, taken, failed, fine] =
        ["indescribable", "impostor", "failing", "prometheus"].map(errors);
    assert_eq!([described, taken, failed, fine], ["1", "4", "4", "0"]);

    let lines = log.lines();
    for words in [
        [
            "collector=\"indescribable\"",
            "panicked while it described its families",
        ],
        [
            "collector=\"impostor\" family=\"process_open_fds\"",
            "another family writes",
        ],
        [
            "collector=\"failing\"",
            "detail=\"the warehouse at \\\"…\\\" does not answer\"",
        ],
        [
            "collector=\"prometheus\" family=\"jobs_total\"",
            "left out of OpenMetrics",
        ],
    ] {
        let said = |line: &&String| words.iter().all(|word| line.contains(word));
        assert_eq!(
            lines.iter().filter(said).count(),
            1,
            "{words:?} in {lines:#?}"
        );
    }
    assert_eq!(lines.len(), 4, "{lines:#?}");
}
