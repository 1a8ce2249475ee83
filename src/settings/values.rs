//! How the values of settings are written: one parser for each kind, each refusing with the end of a sentence.
//!
//! A refusal is read after the flag's name: `--listen (VITALS_LISTEN) must be …`. The database's URL, which must not
//! be quoted, is read in `database_url`.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use actix_vitals::Naming;

const KIBIBYTE: usize = 1024;
const MEBIBYTE: usize = 1024 * KIBIBYTE;
const GIBIBYTE: usize = 1024 * MEBIBYTE;

/// Longest duration that a setting may have: a day. Clocks and timers cope with it everywhere.
const LONGEST_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// Upper bounds of classic buckets, in seconds: finite, positive, rising.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyBuckets(Vec<f64>);

impl LatencyBuckets {
    /// The bounds, without `+Inf`.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }
}

/// A filter of log events, known to be well formed.
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

/// How a log event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object on a line, for machines.
    Json,
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "must be an IP address and a port, such as 127.0.0.1:8000 or [::]:8000, not `{text}`"
        )
    })
}

/// Threads of a listener: Actix takes no more.
pub(super) fn workers(text: &str) -> Result<usize, String> {
    whole(text, 1..=512)
}

pub(super) fn pool_size(text: &str) -> Result<u32, String> {
    whole(text, 1..=10_000)
}

pub(super) fn max_series(text: &str) -> Result<usize, String> {
    whole(text, 1..=1_000_000)
}

pub(super) fn native_buckets(text: &str) -> Result<usize, String> {
    whole(text, 1..=10_000)
}

pub(super) fn connections(text: &str) -> Result<usize, String> {
    whole(text, 1..=1_000_000)
}

/// Headers of a request: the parser takes no more.
pub(super) fn headers(text: &str) -> Result<usize, String> {
    whole(text, 1..=96)
}

/// Levels of JSON: the parser takes no more.
pub(super) fn json_depth(text: &str) -> Result<usize, String> {
    whole(text, 1..=127)
}

fn whole<N>(text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + fmt::Display,
{
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            format!(
                "must be a whole number from {} to {}, not `{text}`",
                range.start(),
                range.end()
            )
        })
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
        Duration::ZERO => Err("must be longer than no time at all".to_owned()),
        duration => Ok(duration),
    }
}

/// The body of a request.
pub(super) fn body_limit(text: &str) -> Result<usize, String> {
    size(text, KIBIBYTE..=64 * MEBIBYTE).ok_or_else(|| {
        format!("must be a size from 1KiB to 64MiB, such as 65536 or 64KiB, not `{text}`")
    })
}

/// The head of a request: the parser takes no more.
pub(super) fn header_bytes(text: &str) -> Result<usize, String> {
    size(text, KIBIBYTE..=128 * KIBIBYTE).ok_or_else(|| {
        format!("must be a size from 1KiB to 128KiB, such as 16384 or 16KiB, not `{text}`")
    })
}

/// Memory for bodies that wait for their clients: no less than what one client needs for the live page's history.
pub(super) fn answer_memory(text: &str) -> Result<usize, String> {
    size(text, 32 * MEBIBYTE..=1024 * GIBIBYTE).ok_or_else(|| {
        format!("must be a size from 32MiB to 1024GiB, such as 268435456 or 256MiB, not `{text}`")
    })
}

/// A size in bytes: `65536`, `64KiB`, `1MiB`, `1GiB`.
fn size(text: &str, range: RangeInclusive<usize>) -> Option<usize> {
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
    let bytes = digits.parse::<usize>().ok()?.checked_mul(factor)?;
    range.contains(&bytes).then_some(bytes)
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

/// Runs of a statement: a number, or 0 for never.
pub(super) fn n_plus_one(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|count| *count <= 1_000_000)
        .ok_or_else(|| format!("must be a whole number from 0 to 1000000, not `{text}`"))
}

/// Statements that are kept: a number, and at least one.
pub(super) fn statements(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=100_000).contains(count))
        .ok_or_else(|| format!("must be a whole number from 1 to 100000, not `{text}`"))
}

/// Whether a flag without a value is on. Only its variable has a value.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err(format!("must be true or false, not `{text}`")),
    }
}

/// An endpoint as its label tells it: a route pattern, or `unmatched`; or `*` for all.
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

/// A filter as tracing-subscriber has it, but strict: there, an unknown level is taken for the name of a target.
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
