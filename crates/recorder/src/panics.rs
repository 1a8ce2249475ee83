//! Panics of the process: each is counted and logged as one line, caught or not.
//!
//! Panics are caught elsewhere: those of requests in `http`, those of database work in its pool, those of collectors in the
//! console.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    cell::Cell,
    panic::{self, PanicHookInfo},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
};

use tracing::dispatcher;
use vitals_registry::{Counter, Descriptor, Family, RegistryBuilder};

use crate::log_limit::{LogLimit, LogLine};

/// The longest message in the log, in characters. A panic may quote a whole document.
const LONGEST_MESSAGE: usize = 300;

/// The counter of panics. Cheap to clone; clones share the counter.
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
            "Panics on any thread of this process, caught or not; 0 if the program does not watch them.",
            [],
        ));
        counted.get();
        Self {
            counted,
            watching: Arc::default(),
        }
    }

    /// Counts and logs the panics of the process from now on, in a hook that then calls the previous one.
    ///
    /// Does nothing while this hook is installed. If several monitorings of one process watch panics, each counts them and
    /// one logs them.
    pub fn watch(&self) {
        let Some(counting) = claim(&self.watching) else {
            return;
        };
        let counting = Counting {
            panics: self.counted.get(),
            _installed: counting,
        };
        let logging = claim(&LOGGING);
        let limit = LogLimit::new();
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if EXPECTED.try_with(Cell::get).unwrap_or(false) {
                return;
            }
            counting.count();
            let _ = LAST_LOCATION.try_with(|last| {
                last.set(panic.location().map(ToString::to_string));
            });
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

/// The counter of an installed hook, and the token that the hook owns.
struct Counting {
    panics: Arc<Counter>,
    _installed: Arc<()>,
}

impl Counting {
    /// A method, so that the hook's closure captures the token, too.
    fn count(&self) {
        self.panics.inc();
    }
}

thread_local! {
    /// Where the last panic of this thread was, until it is taken.
    static LAST_LOCATION: Cell<Option<String>> = const { Cell::new(None) };

    /// A panic of this thread is expected now.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, and returns its panic as an error. The panic is neither counted nor logged: it is how another library says
/// no, or one that only the monitoring could cause, and no defect of a request.
pub(crate) fn catch_expected<T>(work: impl FnOnce() -> T) -> thread::Result<T> {
    let before = EXPECTED.replace(true);
    let result = panic::catch_unwind(panic::AssertUnwindSafe(work));
    EXPECTED.set(before);
    result
}

/// Takes the file, line and column of this thread's last panic, if the process watches its panics.
pub(crate) fn take_location() -> Option<String> {
    LAST_LOCATION.take()
}

/// A token that an installed hook owns. It is dropped with the hook. The lock is taken to install a hook, never within one.
type HookToken = Mutex<Weak<()>>;

/// The token of the hook that logs.
static LOGGING: HookToken = Mutex::new(Weak::new());

/// Returns the token for a new hook; none while an installed hook owns it.
fn claim(token: &HookToken) -> Option<Arc<()>> {
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

/// Returns the message of a panic on one line, without the text in double quotes. There `unwrap` writes the strings of an
/// error, which may contain a URL or personal data.
pub fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let words: Vec<_> = text.split_whitespace().collect();
    let mut message = without_quotation(&words.join(" "));
    if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Removes everything between the first and the last double quote. A quoted string may itself contain quotes.
fn without_quotation(text: &str) -> String {
    match (text.find('"'), text.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}\"…\"{}", &text[..first], &text[last + 1..])
        }
        (Some(first), _) => format!("{}\"…", &text[..first]),
        (None, _) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vitals_registry::Registry;

    use super::*;

    #[test]
    fn an_expected_panic_is_caught_and_not_noticed() {
        let mut builder = Registry::builder(|| Duration::ZERO);
        Panics::declare(&mut builder).watch();
        let caught = || panic::catch_unwind(|| panic!("on purpose")).is_err();
        // The hook notes the location on this thread only. Other tests may panic meanwhile.
        assert!(catch_expected(caught).unwrap());
        assert!(catch_expected(|| panic!("on purpose")).is_err());
        assert_eq!(take_location(), None);
        assert!(caught());
        assert!(take_location().is_some());
    }

    #[test]
    fn a_message_is_one_short_line_without_values() {
        let text = |payload: Box<dyn Any + Send>| message(&*payload);
        assert_eq!(text(Box::new("on purpose")), "on purpose");
        assert_eq!(text(Box::new(7)), "no message");
        for secret in ["secret", "a \"secret\" in quotes", "a secret, two \\"] {
            let error = format!("unwrap() on an `Err` value:\n Failed({secret:?}, 7)");
            assert_eq!(
                text(Box::new(error)),
                "unwrap() on an `Err` value: Failed(\"…\", 7)"
            );
        }
        assert_eq!(text(Box::new("cut off: \"secret")), "cut off: \"…");
        let long = text(Box::new("ż".repeat(1000)));
        assert_eq!(long.chars().count(), LONGEST_MESSAGE + 1);
    }
}
