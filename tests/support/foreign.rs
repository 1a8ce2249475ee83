//! Reads scrapes with three readers that share no code with the encoders: the tests' own for text, the reference parser for
//! OpenMetrics, and Google's decoder for protobuf. All return the same type, so that they can be compared.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::exposition::{Exposition, Labels};
use super::tools;

/// The name of a sample in OpenMetrics, and its labels. Bounds and quantiles have one spelling.
pub(crate) type Series = (String, Labels);

/// Type, unit and help of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) help: String,
}

/// The native part of one histogram.
#[derive(Debug, Clone)]
pub(crate) struct Native {
    pub(crate) schema: i32,
    pub(crate) zero_count: u64,
    /// Index and count of the populated buckets.
    pub(crate) buckets: Vec<(i32, u64)>,
    pub(crate) exemplars: Vec<Value>,
}

/// The contents of one scrape. Values are text, so that NaN equals itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// The families, by name without `_total`.
    pub(crate) families: BTreeMap<String, Family>,
    pub(crate) samples: BTreeMap<Series, String>,
    /// The exemplars, by the series of their sample.
    pub(crate) exemplars: BTreeMap<Series, Value>,
    pub(crate) native: BTreeMap<Series, Native>,
}

impl Reading {
    /// Reads a text scrape. It has no units, exemplars and creation times.
    pub(crate) fn of_text(text: &[u8]) -> Self {
        let text = std::str::from_utf8(text).expect("UTF-8");
        let exposition = Exposition::parse(text).expect("a well-formed text exposition");
        let mut reading = Self::default();
        let base = |name: &str, kind: &str| match kind {
            "counter" => name.trim_end_matches("_total").to_owned(),
            _ => name.to_owned(),
        };
        for name in exposition.family_names() {
            let family = exposition.family(name).expect("a family");
            let kind = match family.kind.as_str() {
                "untyped" => "unknown",
                kind => kind,
            };
            reading.families.insert(
                base(name, kind),
                Family {
                    kind: kind.to_owned(),
                    unit: String::new(),
                    help: unescaped(&family.help),
                },
            );
        }
        for (name, labels, value) in exposition.samples() {
            let counts = exposition
                .family(name)
                .is_some_and(|family| family.kind == "counter");
            let name = if counts {
                format!("{}_total", base(name, "counter"))
            } else {
                name.to_owned()
            };
            reading.insert(name, labels.clone(), value);
        }
        reading
    }

    /// Reads an OpenMetrics scrape with the reference parser, and checks that a round trip changes nothing. The error is
    /// that of the parser.
    pub(crate) fn of_openmetrics(python: &Path, exposition: &[u8]) -> Result<Self, String> {
        Self::of_json(python, "openmetrics.py", exposition)
    }

    /// Reads a protobuf scrape with Google's decoder. The error is that of the decoder.
    pub(crate) fn of_protobuf(python: &Path, exposition: &[u8]) -> Result<Self, String> {
        Self::of_json(python, "protobuf.py", exposition)
    }

    fn of_json(python: &Path, script: &str, exposition: &[u8]) -> Result<Self, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/conformance")
            .join(script);
        let script = script.to_str().expect("a path in UTF-8");
        let said = tools::feed(python, &[script], exposition)?;
        let families: Value = serde_json::from_slice(&said).expect("JSON");
        let mut reading = Self::default();
        for family in families.as_array().expect("families") {
            let before = reading.families.insert(
                text(&family["name"]),
                Family {
                    kind: text(&family["type"]),
                    unit: text(&family["unit"]),
                    help: text(&family["help"]),
                },
            );
            assert!(before.is_none(), "{} twice", family["name"]);
            for sample in family["samples"].as_array().expect("samples") {
                let series = reading.insert(
                    text(&sample["name"]),
                    labels(sample),
                    number(&text(&sample["value"])),
                );
                if !sample["exemplar"].is_null() {
                    let exemplar = sample["exemplar"].clone();
                    reading.exemplars.insert(series, exemplar);
                }
            }
            for native in family["native"].as_array().expect("native histograms") {
                reading
                    .native
                    .insert((text(&native["name"]), labels(native)), native_of(native));
            }
        }
        Ok(reading)
    }

    fn insert(&mut self, name: String, mut labels: Labels, value: f64) -> Series {
        for bound in ["le", "quantile"] {
            if let Some(bound) = labels.get_mut(bound) {
                *bound = number(bound).to_string();
            }
        }
        let series = (name, labels);
        // Python reads `-0` as an integer, which has no sign. Adding 0 removes the sign in Rust.
        let value = format!("{:?}", value + 0.0);
        let before = self.samples.insert(series.clone(), value);
        assert_eq!(before, None, "{series:?} twice");
        series
    }

    /// The samples without creation times, which the text format does not have.
    pub(crate) fn uncreated(&self) -> BTreeMap<Series, String> {
        let mut samples = self.samples.clone();
        samples.retain(|(name, _), _| !name.ends_with("_created"));
        samples
    }
}

fn native_of(native: &Value) -> Native {
    Native {
        schema: serde_json::from_value(native["schema"].clone()).expect("a schema"),
        zero_count: native["zero_count"].as_u64().expect("a count"),
        buckets: serde_json::from_value(native["buckets"].clone()).expect("buckets"),
        exemplars: native["exemplars"].as_array().expect("exemplars").clone(),
    }
}

fn labels(of: &Value) -> Labels {
    serde_json::from_value(of["labels"].clone()).expect("labels")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// Reads a number written by Go, Rust or Python.
fn number(text: &str) -> f64 {
    text.parse().expect("a number")
}

/// Resolves the two escapes of a help text.
fn unescaped(help: &str) -> String {
    let mut parts = help.split(r"\\").map(|part| part.replace(r"\n", "\n"));
    let first = parts.next().unwrap_or_default();
    parts.fold(first, |whole, part| whole + r"\" + &part)
}
