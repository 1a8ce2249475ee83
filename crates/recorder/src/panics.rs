//! Panics, wherever in the process they are: each is counted, and is one line in the log, whoever catches it.
//!
//! Who catches what is told elsewhere: requests by `http`, work on the database by its pool, collectors by the registry.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use tracing::dispatcher;

use super::log_limit::{LogLimit, LogLine};
use vitals_registry::{Counter, Descriptor, Family, RegistryBuilder};

/// Longest message in the log, in characters: a panic may quote a whole document.
const LONGEST_MESSAGE: usize = 300;

/// The counter of panics. Cheap to clone; a clone is the same counter.
#[derive(Clone, Debug)]
pub struct Panics {
    counted: Family<Counter, 0>,
    watching: Arc<HookToken>,
}

impl Panics {
    /// Declares the family.
    pub fn declare(registry: &mut RegistryBuilder) -> Self {
        let counted = registry.counter(Descriptor::new(
            "vitals_panics_total",
            "Panics of this process on any of its threads, caught or not; counted where the program has them watched.",
            [],
        ));
        counted.get();
        Self {
            counted,
            watching: Arc::default(),
        }
    }

    /// Counts the panics of the process from now on, in a hook that then calls the one there was. Does nothing while this
    /// hook is in place; where several monitorings have theirs, each counts, and one logs.
    pub fn watch(&self) {
        let Some(counting) = begin(&self.watching) else {
            return;
        };
        let counting = Counting {
            panics: self.counted.get(),
            _in_place: counting,
        };
        let logging = begin(&LOGGING);
        let limit = LogLimit::new();
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            counting.count();
            if logging.is_some()
                && dispatcher::has_been_set()
                && let Some(line) = limit.line()
            {
                log(panic, &line);
            }
            previous(panic);
        }));
    }
}

/// The token by which a hook counts, for as long as it is in place.
struct Counting {
    panics: Arc<Counter>,
    _in_place: Arc<()>,
}

impl Counting {
    /// A method, so that the hook holds the whole and not the counter alone.
    fn count(&self) {
        self.panics.inc();
    }
}

/// A token that a hook owns: gone when the hook is. It is locked while a hook is installed, and never in one.
type HookToken = Mutex<Weak<()>>;

/// That of the hook that logs.
static LOGGING: HookToken = Mutex::new(Weak::new());

/// The token for a new hook; none while a hook has it.
fn begin(token: &HookToken) -> Option<Arc<()>> {
    let mut owned = token.lock().unwrap_or_else(PoisonError::into_inner);
    if owned.strong_count() > 0 {
        return None;
    }
    let new = Arc::new(());
    *owned = Arc::downgrade(&new);
    Some(new)
}

fn log(panic: &PanicHookInfo<'_>, line: &LogLine) {
    let thread = thread::current();
    let location = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        location,
        backtrace,
        left_out = line.left_out,
        "panic: {}",
        message(panic.payload())
    );
}

/// What a panic says, on one line, and without what stands in double quotes: there `unwrap` shows the strings of an error,
/// and that may be part of a URL or of somebody's data.
pub fn message(payload: &(dyn Any + Send)) -> String {
    let said = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let words: Vec<_> = said.split_whitespace().collect();
    let mut message = without_quotation(&words.join(" "));
    if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    message
}

/// The text without all from its first to its last double quote: a string that is shown may itself hold some.
fn without_quotation(said: &str) -> String {
    match (said.find('"'), said.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}\"…\"{}", &said[..first], &said[last + 1..])
        }
        (Some(first), _) => format!("{}\"…", &said[..first]),
        (None, _) => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_short_line_without_quotations() {
        let said = |payload: Box<dyn Any + Send>| message(&*payload);
        assert_eq!(said(Box::new("on purpose")), "on purpose");
        assert_eq!(said(Box::new(7)), "no message");
        for secret in ["secret", "a \"secret\" in quotes", "a secret, two \\"] {
            let error = format!("unwrap() on an `Err` value:\n Failed({secret:?}, 7)");
            assert_eq!(
                said(Box::new(error)),
                "unwrap() on an `Err` value: Failed(\"…\", 7)"
            );
        }
        assert_eq!(said(Box::new("cut off: \"secret")), "cut off: \"…");
        let long = said(Box::new("ż".repeat(1000)));
        assert_eq!(long.chars().count(), LONGEST_MESSAGE + 1);
    }
}
