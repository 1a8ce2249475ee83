//! Parsers of the values of settings.
//!
//! An error is the end of a sentence that begins with the flag: `--listen (VITALS_LISTEN) must be …`. `database_url` parses
//! the URL of the database, which no message may quote.

use std::{fmt, net::SocketAddr, ops::RangeInclusive, str::FromStr, time::Duration};

use actix_vitals::{
    Naming,
    otlp::{EndpointError, OtlpEndpoint},
};
use tracing_subscriber::EnvFilter;

pub(super) const KIBIBYTE: usize = 1024;
pub(super) const MEBIBYTE: usize = 1024 * KIBIBYTE;
pub(super) const GIBIBYTE: usize = 1024 * MEBIBYTE;

/// The longest duration of a setting, a day. It cannot overflow a clock or a timer.
const LONGEST_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest interval of pushes: each is a whole scrape.
const SHORTEST_PUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Upper bounds of classic buckets, in seconds: finite, positive and in rising order.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyBuckets(Vec<f64>);

impl LatencyBuckets {
    /// The bounds, without `+Inf`.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }
}

/// A valid filter of log events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter, for the subscriber.
    pub fn to_env_filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The form of a log event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text.
    Text,
    /// A JSON object on one line.
    Json,
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "must be an IP address and a port, such as 127.0.0.1:8000 or [::]:8000, not `{text}`"
        )
    })
}

/// A parser of whole numbers in a range. The range must have the type of the setting's field, which clap checks at run time
/// only.
pub(super) fn whole<N>(
    range: RangeInclusive<N>,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static
where
    N: FromStr + PartialOrd + fmt::Display + Clone + Send + Sync + 'static,
{
    move |text| {
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                format!("must be a whole number from {least} to {most}, not `{text}`")
            })
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| *duration <= LONGEST_DURATION)
        .ok_or_else(|| {
            format!("must be a duration of at most a day, such as 500ms, 2s or 1m30s, not `{text}`")
        })
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than 0s".to_owned()),
        duration => Ok(duration),
    }
}

/// A parser of sizes in a range of bytes: `65536`, `64KiB`, `1MiB`, `1GiB`.
pub(super) fn size(
    range: RangeInclusive<usize>,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| {
        bytes(text)
            .filter(|size| range.contains(size))
            .ok_or_else(|| {
                let (least, most) = (in_units(*range.start()), in_units(*range.end()));
                format!("must be a size from {least} to {most}, in bytes or in KiB, MiB or GiB, not `{text}`")
            })
    }
}

fn bytes(text: &str) -> Option<usize> {
    let (digits, unit) = match text.find(|character: char| !character.is_ascii_digit()) {
        Some(end) => text.split_at(end),
        None => (text, ""),
    };
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => KIBIBYTE,
        "MiB" => MEBIBYTE,
        "GiB" => GIBIBYTE,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}

/// A size in the largest unit that leaves no fraction.
fn in_units(bytes: usize) -> String {
    let units = [(GIBIBYTE, "GiB"), (MEBIBYTE, "MiB"), (KIBIBYTE, "KiB")];
    let unit = units
        .into_iter()
        .find(|(size, _)| bytes.is_multiple_of(*size));
    let (size, name) = unit.unwrap_or((1, "B"));
    format!("{}{name}", bytes / size)
}

pub(super) fn naming(text: &str) -> Result<Naming, String> {
    match text {
        "vitals" => Ok(Naming::Vitals),
        "otel" => Ok(Naming::OpenTelemetry),
        _ => Err(format!("must be vitals or otel, not `{text}`")),
    }
}

pub(super) fn latency_buckets(text: &str) -> Result<LatencyBuckets, String> {
    let bounds = text
        .split([',', ' '])
        .filter(|bound| !bound.is_empty())
        .map(|bound| {
            bound
                .parse()
                .ok()
                .filter(|seconds: &f64| seconds.is_finite() && *seconds > 0.0)
                .ok_or_else(|| {
                    format!(
                        "must list positive numbers of seconds, such as 0.01,0.1,1, not `{bound}`"
                    )
                })
        })
        .collect::<Result<Vec<f64>, String>>()?;
    if bounds.is_empty() || bounds.len() > 100 {
        return Err("must list from 1 to 100 bounds".to_owned());
    }
    if let Some((lower, upper)) = bounds.iter().zip(&bounds[1..]).find(|(a, b)| a >= b) {
        return Err(format!(
            "must list its bounds in rising order, but {upper} follows {lower}"
        ));
    }
    Ok(LatencyBuckets(bounds))
}

/// A label of every series, `name=value`. Whether a family has one of this name already is checked when it is built.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let label = text.trim().split_once('=').filter(|(name, value)| {
        let is_letter = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
        name.starts_with(is_letter)
            && name.chars().all(|it| is_letter(it) || it.is_ascii_digit())
            && (1..=256).contains(&value.len())
    });
    label
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| {
            format!(
                "must list labels such as region=eu, with names of letters, digits and _, and values of up to 256 bytes, \
                 not `{text}`"
            )
        })
}

/// The value of a switch's variable. The flag itself has none.
pub(super) fn otlp_endpoint(text: &str) -> Result<OtlpEndpoint, EndpointError> {
    text.parse()
}

pub(super) fn push_interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        interval if interval < SHORTEST_PUSH_INTERVAL => Err("must be at least 100ms".to_owned()),
        interval => Ok(interval),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err(format!("must be true or false, not `{text}`")),
    }
}

/// Whether something is done: `on` or `off`.
pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("must be on or off, not `{text}`")),
    }
}

/// An endpoint, as the value of the label `endpoint`: a route pattern or `unmatched`. `*` means all.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.starts_with('/') || matches!(name, "unmatched" | "*") {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "must list route patterns, such as /data/{{item_id}}, or unmatched or *, not `{text}`"
        ))
    }
}

/// A filter for tracing-subscriber, which would take an unknown level for the name of a target. Here it is an error.
pub(super) fn log_filter(text: &str) -> Result<LogFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |directive: &str| {
        directive.contains('=')
            || LEVELS
                .iter()
                .any(|level| level.eq_ignore_ascii_case(directive))
    };
    if text.split(',').all(|directive| known(directive.trim())) && EnvFilter::try_new(text).is_ok()
    {
        Ok(LogFilter(text.to_owned()))
    } else {
        Err(format!(
            "must be a level (off, error, warn, info, debug, trace) or a list such as info,actix_server=warn, not `{text}`"
        ))
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("must be text or json, not `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use actix_vitals::{BuildError, Vitals, ops::LogControl, registry::Format};

    use super::*;
    use crate::settings::Settings;

    fn build(flags: &[&str]) -> Result<Vitals, BuildError> {
        let arguments = [&["actix-vitals"], flags].concat();
        let log = LogControl::new("info", |_| Ok(()));
        Settings::load(arguments).unwrap().to_builder(log).build()
    }

    #[test]
    fn a_label_that_a_family_has_is_an_error() {
        let error = build(&["--label=endpoint=a"]).unwrap_err().to_string();
        assert!(error.contains("endpoint"), "{error}");
    }

    #[test]
    fn every_series_has_the_labels_of_the_settings() {
        let vitals = build(&["--label=region=eu, tier=a=b", "--label=z=1"]).unwrap();
        let text = String::from_utf8(vitals.registry().encode(Format::Text)).unwrap();
        let mut samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .peekable();
        assert!(samples.peek().is_some());
        for sample in samples {
            for label in [r#"region="eu""#, r#"tier="a=b""#, r#"z="1""#] {
                assert!(sample.contains(label), "{label} is not in {sample}");
            }
        }
    }

    #[test]
    fn a_label_has_a_name_of_the_data_model_and_a_value() {
        for text in [
            "region",
            "=eu",
            "region=",
            "1st=a",
            "re-gion=eu",
            "ré=eu",
            " =eu",
        ] {
            assert!(label(text).is_err(), "{text}");
        }
        assert!(label(&format!("a={}", "v".repeat(257))).is_err());
    }
}
