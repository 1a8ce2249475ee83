//! Why requests failed: the types of their errors, grouped and counted.
//!
//! A cause contains names from the code only: types and variants of errors, titles of problems, kinds of database errors, the
//! location of a panic. The text of an error is never kept: it may contain values.

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt::{self, Write as _},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use actix_web::error::{BlockingError, JsonPayloadError, PayloadError, UrlencodedError};

use crate::{
    database::ErrorKind,
    error_chain,
    http::insight::{
        kept::KeptId,
        timeline::{KeptEnding, KeptRequest},
    },
    ops_endpoints::OpsEndpoints,
    problem::Problem,
};

/// The most groups that are kept.
const MOST_GROUPS: usize = 200;

/// The most names of one cause.
const MOST_NAMES: usize = 6;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 100;

/// The length of an error's text in which a name is looked for, in bytes.
const SEARCHED_TEXT: usize = 16 * 1024;

/// In what way a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The code of the application panicked.
    Panic,
    /// A handler or a middleware returned an error.
    Error,
    /// A handler or a middleware answered with 500 or above, without an error.
    Answer,
    /// The answer did not reach its client.
    Ending(KeptEnding),
}

impl FailureKind {
    /// Its name in reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Error => "error",
            Self::Answer => "answer",
            Self::Ending(ending) => ending.label(),
        }
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureCause {
    /// In what way it failed.
    pub kind: FailureKind,
    /// The error's types or variants, and those of its sources, as far as they are known.
    pub types: Vec<Cow<'static, str>>,
    /// The title of the problem that it answered with, if that is part of the code.
    pub title: Option<&'static str>,
    /// Where the code panicked, if the process watches its panics: file, line and column.
    pub location: Option<String>,
    /// The last error that the database reported to the request.
    pub database_error: Option<ErrorKind>,
}

impl FailureCause {
    /// Returns a cause of which only the kind is known.
    pub(in crate::http) fn of_kind(kind: FailureKind) -> Self {
        Self {
            kind,
            types: Vec::new(),
            title: None,
            location: None,
            database_error: None,
        }
    }

    pub(in crate::http) fn of_panic(location: Option<String>) -> Self {
        Self {
            location,
            ..Self::of_kind(FailureKind::Panic)
        }
    }

    /// Returns the cause of an answer that was made from this error.
    pub(in crate::http) fn of_error(error: &actix_web::Error) -> Self {
        let mut cause = Self::of_kind(FailureKind::Error);
        if let Some(problem) = error.as_error::<Problem>() {
            cause.title = problem.static_title();
            cause.types.push(Cow::Borrowed("Problem"));
            cause.types.extend_from_slice(problem.causes());
        } else {
            cause.types = names_of_actix(error);
        }
        cause.types.truncate(MOST_NAMES);
        cause
    }
}

/// The names of an error, and of its sources if it is known to have any.
fn names_of_actix(error: &actix_web::Error) -> Vec<Cow<'static, str>> {
    macro_rules! known {
        ($($known:ty),*) => {
            $(if let Some(known) = error.as_error::<$known>() {
                return names_of(known);
            })*
        };
    }
    known!(
        PayloadError,
        JsonPayloadError,
        UrlencodedError,
        BlockingError,
        io::Error
    );
    if let Some(boxed) = error.as_error::<Box<dyn StdError>>() {
        return names_of_chain(&**boxed);
    }
    let shown = error.as_response_error();
    names_of_debug(&shown, &shown)
}

/// The names of an error of a known type, and of its sources.
pub(crate) fn names_of<E: StdError + 'static>(error: &E) -> Vec<Cow<'static, str>> {
    let mut names = Vec::new();
    let name = std::any::type_name::<E>();
    if name.len() <= LONGEST_NAME {
        names.push(Cow::Borrowed(name));
    }
    names.extend(names_of_chain(error));
    names.truncate(MOST_NAMES);
    names
}

/// The names of an error and of its sources.
fn names_of_chain(error: &(dyn StdError + 'static)) -> Vec<Cow<'static, str>> {
    let mut names = Vec::new();
    for error in error_chain::links(error) {
        for name in names_of_one(error) {
            // A source is often shown by the error around it.
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() >= MOST_NAMES {
            break;
        }
    }
    names.truncate(MOST_NAMES);
    names
}

fn names_of_one(error: &(dyn StdError + 'static)) -> Vec<Cow<'static, str>> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // Its kinds are part of the standard library.
        let mut names = vec![Cow::Owned(format!("std::io::Error({:?})", error.kind()))];
        // Not a source: `source` returns that of the inner error.
        if let Some(inner) = error.get_ref() {
            names.extend(names_of_debug(&inner, &inner));
        }
        return names;
    }
    if error.is::<serde_json::Error>() {
        return vec![Cow::Borrowed("serde_json::Error")];
    }
    names_of_debug(&error, &error)
}

/// The names with which a derived `Debug` begins: `Query(DatabaseError(UniqueViolation, "…"))` has three. A hand-written one
/// may show values: a name that is part of the error's text is not taken, nor anything after it.
fn names_of_debug(error: &dyn fmt::Debug, text: &dyn fmt::Display) -> Vec<Cow<'static, str>> {
    let mut debug = Beginning::new(LONGEST_NAME * MOST_NAMES);
    let _ = write!(debug, "{error:?}");
    let mut shown = Beginning::new(SEARCHED_TEXT);
    if write!(shown, "{text}").is_err() {
        // Too long to be searched.
        return Vec::new();
    }
    let mut names = Vec::new();
    let mut rest = &*debug.text;
    while let Some((name, after)) = leading_name(rest) {
        if shown.text.contains(name) || names.len() >= MOST_NAMES {
            break;
        }
        names.push(Cow::Owned(name.to_owned()));
        match after.strip_prefix('(') {
            Some(inner) => rest = inner,
            None => break,
        }
    }
    names
}

/// The type or variant that a text begins with, as a derived `Debug` shows it, and the rest.
fn leading_name(text: &str) -> Option<(&str, &str)> {
    // Few types have digits in their names, and most tokens have some.
    let end = text.find(|letter: char| !letter.is_ascii_alphabetic());
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    let begins_as_a_type = name.starts_with(|letter: char| letter.is_ascii_uppercase());
    let ends_as_a_type =
        rest.is_empty() || rest.starts_with(['(', ')', ',']) || rest.starts_with(" {");
    (begins_as_a_type && ends_as_a_type && name.len() <= LONGEST_NAME).then_some((name, rest))
}

/// The beginning of a text. Writing more than its limit is an error.
struct Beginning {
    text: String,
    limit: usize,
}

impl Beginning {
    fn new(limit: usize) -> Self {
        Self {
            text: String::new(),
            limit,
        }
    }
}

impl fmt::Write for Beginning {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.text.len() + piece.len() > self.limit {
            return Err(fmt::Error);
        }
        self.text.push_str(piece);
        Ok(())
    }
}

/// Requests that failed in the same way.
#[derive(Clone, Debug)]
pub struct FailureGroup {
    /// The value of the label `method`.
    pub method: &'static str,
    /// The value of the label `endpoint`.
    pub endpoint: Arc<str>,
    /// The status; 499 if the client left before the head of an answer.
    pub status: u16,
    /// Why they failed.
    pub cause: FailureCause,
    /// Their number since the group exists.
    pub count: u64,
    /// When the first of them ended.
    pub first_seen: SystemTime,
    /// When the last of them ended.
    pub last_seen: SystemTime,
    /// The last of them whose timeline was kept.
    pub last_kept: Option<Arc<KeptRequest>>,
}

/// The failed requests, by endpoint, status and cause. Cheap to clone; clones share the groups.
///
/// At most 200 groups are kept; a new one replaces the group whose last request is the oldest.
#[derive(Clone, Debug)]
pub struct FailureGroups {
    inner: Arc<FailuresInner>,
}

#[derive(Debug)]
struct FailuresInner {
    excluded: OpsEndpoints,
    /// In the order of their last requests, the latest last: the clock of the system may go back.
    groups: Mutex<Vec<FailureGroup>>,
}

impl FailureGroups {
    /// Returns an empty set that skips requests of the `excluded` endpoints.
    pub fn new(excluded: OpsEndpoints) -> Self {
        Self {
            inner: Arc::new(FailuresInner {
                excluded,
                groups: Mutex::default(),
            }),
        }
    }

    /// Counts a request.
    #[cold]
    pub(in crate::http) fn add(
        &self,
        method: &'static str,
        endpoint: &Arc<str>,
        status: u16,
        cause: FailureCause,
        kept: Option<Arc<KeptRequest>>,
    ) {
        if self.inner.excluded.contains(endpoint) {
            return;
        }
        let now = SystemTime::now();
        let mut groups = self.lock();
        // The latest is often the next.
        let known = groups.iter().rposition(|group| {
            group.method == method
                && group.status == status
                && group.endpoint == *endpoint
                && group.cause == cause
        });
        if let Some(at) = known {
            let group = &mut groups[at];
            group.count += 1;
            group.last_seen = now;
            group.last_kept = kept.or(group.last_kept.take());
            groups[at..].rotate_left(1);
            return;
        }
        if groups.len() >= MOST_GROUPS {
            groups.remove(0);
        }
        groups.push(FailureGroup {
            method,
            endpoint: Arc::clone(endpoint),
            status,
            cause,
            count: 1,
            first_seen: now,
            last_seen: now,
            last_kept: kept,
        });
    }

    /// The groups, the latest first.
    pub fn list(&self) -> Vec<FailureGroup> {
        self.lock().iter().rev().cloned().collect()
    }

    /// The last kept request of a group, by its id. It may be kept for no other reason any more.
    pub fn kept(&self, id: KeptId) -> Option<Arc<KeptRequest>> {
        let groups = self.lock();
        let mut kept = groups.iter().filter_map(|group| group.last_kept.as_ref());
        kept.find(|request| request.id == id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<FailureGroup>> {
        let groups = &self.inner.groups;
        groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
