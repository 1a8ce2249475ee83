//! Reads the counts of the HTTP recorder from the text format of its registry.

use std::collections::BTreeMap;

use actix_vitals::{Vitals, registry::Format};

/// The counts of one application. Each call reads them again.
pub(crate) struct Count(Vitals);

impl Count {
    pub(crate) fn of(vitals: &Vitals) -> Self {
        Self(vitals.clone())
    }

    /// All samples of one name: the values of these labels, in this order, and the value of the sample.
    pub(crate) fn samples<const N: usize>(
        &self,
        name: &str,
        labels: [&str; N],
    ) -> BTreeMap<[String; N], f64> {
        let text = String::from_utf8(self.0.registry().encode(Format::Text)).expect("UTF-8");
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let (set, value) = match rest.strip_prefix('{') {
                    Some(rest) => rest.split_once("} ")?,
                    None => ("", rest.strip_prefix(' ')?),
                };
                let values = labels.map(|label| {
                    let start =
                        set.find(&format!("{label}=\"")).expect("the label") + label.len() + 2;
                    let end = set[start..].find('"').expect("a closing quote") + start;
                    set[start..end].to_owned()
                });
                Some((values, value.parse().expect("a number")))
            })
            .collect()
    }

    fn counts<const N: usize>(&self, name: &str, labels: [&str; N]) -> BTreeMap<[String; N], u64> {
        self.samples(name, labels)
            .into_iter()
            .map(|(labels, value)| (labels, value as u64))
            .collect()
    }

    fn by_endpoint(&self, name: &str) -> BTreeMap<String, u64> {
        self.counts(name, ["endpoint"])
            .into_iter()
            .map(|([endpoint], value)| (endpoint, value))
            .collect()
    }

    pub(crate) fn in_progress(&self) -> u64 {
        self.counts("inprogress_requests", [])[&[]]
    }

    pub(crate) fn requests(&self) -> BTreeMap<[String; 3], u64> {
        self.counts("http_requests_total", ["method", "endpoint", "http_status"])
    }

    pub(crate) fn durations(&self) -> BTreeMap<[String; 3], u64> {
        self.counts(
            "http_request_duration_seconds_count",
            ["method", "endpoint", "http_status"],
        )
    }

    pub(crate) fn aborted(&self) -> BTreeMap<[String; 3], u64> {
        self.counts(
            "http_requests_aborted_total",
            ["method", "endpoint", "phase"],
        )
    }

    pub(crate) fn panics(&self) -> BTreeMap<String, u64> {
        self.by_endpoint("http_request_panics_total")
    }

    pub(crate) fn streams_active(&self) -> BTreeMap<String, u64> {
        self.by_endpoint("http_streams_active")
    }

    pub(crate) fn streams_ended(&self) -> BTreeMap<String, u64> {
        self.by_endpoint("http_stream_duration_seconds_count")
    }
}
