//! Arithmetic on sparse buckets: lists of an index and a count, in ascending order of the index.
//!
//! ```
//! use vitals_registry::sparse;
//!
//! let mut buckets = vec![(-3, 1), (0, 2)];
//! sparse::merge(&mut buckets, &[(-3, 4), (7, 1)]);
//! assert_eq!(buckets, [(-3, 5), (0, 2), (7, 1)]);
//! assert_eq!(sparse::since(&buckets, &[(-3, 1), (0, 2)]), [(-3, 4), (7, 1)]);
//! ```

/// Adds `count` to the bucket `index`.
pub fn add(buckets: &mut Vec<(i32, u64)>, index: i32, count: u64) {
    match buckets.binary_search_by_key(&index, |bucket| bucket.0) {
        Ok(at) => buckets[at].1 += count,
        Err(at) => buckets.insert(at, (index, count)),
    }
}

/// Adds the counts of `other` to `buckets`.
pub fn merge(buckets: &mut Vec<(i32, u64)>, other: &[(i32, u64)]) {
    if buckets.is_empty() {
        buckets.extend_from_slice(other);
        return;
    }
    for (index, count) in other {
        add(buckets, *index, *count);
    }
}

/// Returns what `now` has more than `before`, without empty buckets.
pub fn since(now: &[(i32, u64)], before: &[(i32, u64)]) -> Vec<(i32, u64)> {
    let mut before = before.iter().peekable();
    let more = now.iter().filter_map(|(index, count)| {
        while before.next_if(|(earlier, _)| earlier < index).is_some() {}
        let known = before.next_if(|(earlier, _)| earlier == index);
        let more = count.saturating_sub(known.map_or(0, |(_, count)| *count));
        (more > 0).then_some((*index, more))
    });
    more.collect()
}

/// Halves the resolution: two neighbours become one bucket.
pub(crate) fn halve(buckets: &mut Vec<(i32, u64)>) {
    for (index, _) in buckets.iter_mut() {
        *index = (*index + 1) >> 1;
    }
    buckets.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 += later.1;
        }
        same
    });
}
