//! Warns of endpoints in `--exclude` that do not exist, because they would have no effect.

/// Accepted names that are no patterns: requests that no route answers, and all requests.
const SPECIAL: [&str; 2] = ["unmatched", "*"];

/// Most patterns in a suggestion.
const SUGGESTIONS: usize = 3;

/// Warns of each excluded endpoint that is not among the `known` patterns.
pub(super) fn warn_of_unknown(excluded: &[String], known: &[String]) {
    for endpoint in excluded {
        if known.contains(endpoint) || SPECIAL.contains(&endpoint.as_str()) {
            continue;
        }
        let remedy = match &*nearest(endpoint, known) {
            [] => "use a route's pattern, such as /data/{item_id}, or unmatched, or *".to_owned(),
            near => format!("did you mean {}?", near.join(" or ")),
        };
        tracing::warn!(
            endpoint,
            "--exclude (VITALS_EXCLUDE) names an endpoint that no route has, so it excludes nothing: {remedy}"
        );
    }
}

/// The known patterns that are most similar, if any is similar enough.
fn nearest<'a>(endpoint: &str, known: &'a [String]) -> Vec<&'a str> {
    let candidates = known.iter().filter_map(|pattern| {
        let expected = bare(pattern);
        let distance = if is_path_of(endpoint, pattern) {
            0
        } else {
            distance(&bare(endpoint), &expected)
        };
        (distance <= expected.len() / 3).then_some((distance, pattern.as_str()))
    });
    let mut near: Vec<_> = candidates.collect();
    near.sort_unstable();
    let least = near.first().map(|(distance, _)| *distance);
    near.retain(|(distance, _)| Some(*distance) == least);
    near.truncate(SUGGESTIONS);
    near.into_iter().map(|(_, pattern)| pattern).collect()
}

/// Whether a path (`/data/5`) matches a pattern (`/data/{item_id}`).
fn is_path_of(path: &str, pattern: &str) -> bool {
    let [path, pattern] = [path, pattern].map(|it| it.split('/').collect::<Vec<_>>());
    path.len() == pattern.len()
        && (path.iter().zip(&pattern)).all(|(segment, expected)| {
            segment == expected || (expected.starts_with('{') && !segment.is_empty())
        })
}

/// A pattern without what is often mistaken: names of parameters, capitals, a trailing slash.
fn bare(pattern: &str) -> Vec<char> {
    let mut is_name = false;
    let mut bare = Vec::new();
    for letter in pattern.trim_end_matches('/').to_lowercase().chars() {
        is_name &= letter != '}';
        if !is_name {
            bare.push(letter);
        }
        is_name |= letter == '{';
    }
    bare
}

/// The Levenshtein distance: the least number of letters to insert, delete or replace.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_patterns_are_suggested_if_they_are_similar_enough() {
        let known = [
            "/",
            "/data",
            "/data/{item_id}",
            "/livez",
            "/metrics",
            "/readyz",
            "/ops/statements",
            "/dashboard/{part}",
        ]
        .map(str::to_owned);
        for (endpoint, expected, why) in [
            (
                "/data/{id}",
                &["/data/{item_id}"][..],
                "another name of the parameter",
            ),
            (
                "/data/5",
                &["/data/{item_id}"],
                "a path instead of the pattern",
            ),
            ("/data/", &["/data"], "a trailing slash"),
            ("/Data", &["/data"], "a capital"),
            ("/metric", &["/metrics"], "a missing letter"),
            ("/livz", &["/livez"], "a missing letter"),
            ("/statements", &["/ops/statements"], "a part of the pattern"),
            ("/orders/{id}", &[], "not similar"),
            ("/x", &[], "too short"),
        ] {
            assert_eq!(nearest(endpoint, &known), expected, "{why}: {endpoint}");
        }
    }
}
