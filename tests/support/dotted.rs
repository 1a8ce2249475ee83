//! The names of OpenTelemetry's semantic conventions with their dots, as a scraper gets them that allows UTF-8.

/// The families of `--naming otel` that have dots.
const FAMILIES: [&str; 12] = [
    "http.server.request.duration_seconds",
    "http.server.request.body.size_bytes",
    "http.server.response.body.size_bytes",
    "http.server.active_requests",
    "db.client.operation.duration_seconds",
    "db.client.connection.create_time_seconds",
    "db.client.connection.wait_time_seconds",
    "db.client.connection.use_time_seconds",
    "db.client.connection.timeouts_total",
    "db.client.connection.pending_requests",
    "db.client.connection.max",
    "db.client.connection.count",
];

/// The labels of `--naming otel` that have dots.
const LABELS: [&str; 9] = [
    "db.client.connection.state",
    "db.client.connection.pool.name",
    "db.operation.name",
    "db.system.name",
    "error.type",
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "url.scheme",
];

/// The suffixes of a histogram's samples, and that of all others.
const SUFFIXES: [&str; 4] = ["_bucket", "_sum", "_count", ""];

/// All names that have dots.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter().chain(LABELS)
}

/// The families that have dots.
pub(crate) fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter()
}

/// The name with underscores for its dots.
pub(crate) fn underscored(name: &str) -> String {
    name.replace('.', "_")
}

/// The name of a sample or label with its dots, if it has any.
pub(crate) fn dotted(name: &str) -> String {
    let label = LABELS.iter().find(|label| underscored(label) == name);
    let found = label.map(ToString::to_string);
    found
        .or_else(|| sample(name))
        .unwrap_or_else(|| name.to_owned())
}

fn sample(name: &str) -> Option<String> {
    SUFFIXES.iter().find_map(|suffix| {
        let stem = name.strip_suffix(suffix)?;
        let family = FAMILIES.iter().find(|family| underscored(family) == stem)?;
        Some(format!("{family}{suffix}"))
    })
}

/// A query by names with underscores, by the names with dots: `a_b{c_d="e"}` becomes `{"a.b","c.d"="e"}`.
pub(crate) fn dotted_query(query: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = query;
    while !rest.is_empty() {
        let (word, tail) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        rest = tail;
        if let Some(sample) = sample(word) {
            out.extend(["{\"", &sample, "\""]);
            match rest.strip_prefix('{') {
                Some(labels) => {
                    out.push(',');
                    rest = labels;
                }
                None => out.push('}'),
            }
        } else if dotted(word) == word {
            out.push_str(word);
        } else {
            out.extend(["\"", &dotted(word), "\""]);
        }
        // What is not part of a word, with the values of labels as they are.
        let end = match rest.chars().next() {
            Some('"') => rest[1..].find('"').expect("a string that ends") + 2,
            Some(next) if !is_part(next) => next.len_utf8(),
            _ => 0,
        };
        out.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    out
}
