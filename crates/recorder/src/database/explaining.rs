//! The explaining connection: one connection to a pool's database that is not the pool's, for questions about the database
//! itself.
//!
//! Contains the [`Explainer`], which each pool has one of. It owns a thread, which opens the connection when there is a
//! question and closes it when there has been none for a while. Its statements are not recorded, and run in read-only
//! transactions that are rolled back. Not here: the questions, and how a connection of Diesel answers them.
//!
//! Nobody waits for this thread: a question is put into a queue or rejected, and its answer is handed to a function. The
//! thread waits for nobody for long either: it answers at most one question and explains at most one statement a second, and
//! PostgreSQL ends each statement and each wait for a lock after half a second.

mod hourly;
mod thread;

use std::collections::HashMap;
use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::plans::Study;
use super::sql::Dialect;

/// The most questions that wait for their turn. Later ones are rejected: their answers would come too late.
const MOST_WAITING: usize = 4;

/// A row of an answer: its columns as text, `None` for NULL.
pub(crate) type TextRow = Vec<Option<String>>;

/// What the database answered, or why it did not.
pub(crate) type Answer<T> = Result<T, AskError>;

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskError {
    /// No connection could be opened, or it was lost.
    Unreachable,
    /// The role may not do this.
    Denied,
    /// Another transaction holds a lock, as a change of the schema does.
    Locked,
    /// The database took longer than half a second.
    Slow,
    /// The statement does not fit the schema: a migration may have changed it.
    Unknown,
    /// The database rejected the statement.
    Rejected,
}

impl AskError {
    /// The reason in a few words, for a page and for the log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Unreachable => "no connection to the database could be opened, or it was lost",
            Self::Denied => "the role that the pool connects as may not do this",
            Self::Locked => "a transaction holds a lock on a table, as a change of the schema does",
            Self::Slow => "the database took longer than half a second",
            Self::Unknown => {
                "the statement does not fit the schema, which a migration may have changed"
            }
            Self::Rejected => "the database rejected the question",
        }
    }
}

/// A connection that answers in rows of text. It stays on the explaining thread.
pub(super) trait Asked {
    /// Runs statements whose results are of no interest.
    fn run(&mut self, sql: &str) -> Answer<()>;

    /// Runs one statement. In PostgreSQL, each of its columns must have a type of text.
    fn rows(&mut self, sql: &str) -> Answer<Vec<TextRow>>;
}

/// Opens a connection, on the explaining thread.
pub(super) type Open = Box<dyn Fn() -> Answer<Box<dyn Asked>> + Send>;

/// A function that gets an answer on the explaining thread.
type Then = Box<dyn FnOnce(Answer<Vec<TextRow>>) + Send>;

/// What the explaining thread is woken for.
enum Message {
    Question(Question),
    /// An operator looks at a statement.
    Look,
}

/// What the explaining thread is asked for.
struct Question {
    sql: String,
    then: Then,
}

/// Asks questions about the database of one pool, without the pool's connections. The pool owns it.
pub(crate) struct Explainer {
    dialect: Dialect,
    messages: SyncSender<Message>,
    /// What the thread needs, until it has started.
    unstarted: Mutex<Option<Unstarted>>,
}

struct Unstarted {
    pool: Box<str>,
    open: Open,
    messages: Receiver<Message>,
    /// Explains statements, if that is wanted.
    study: Option<Study>,
}

impl Explainer {
    /// An explainer for the pool of this name, whose connections `open` opens. Its thread starts with the first question, or
    /// at once if there is a study.
    pub(super) fn new(pool: &str, dialect: Dialect, open: Open, study: Option<Study>) -> Arc<Self> {
        let (sender, messages) = sync_channel(MOST_WAITING);
        let is_studied = study.is_some();
        let explainer = Arc::new(Self {
            dialect,
            messages: sender,
            unstarted: Mutex::new(Some(Unstarted {
                pool: pool.into(),
                open,
                messages,
                study,
            })),
        });
        if is_studied {
            explainer.start();
        }
        explainer
    }

    /// Looks now for statements to explain.
    pub(super) fn look(&self) {
        // A full queue wakes the thread as well.
        let _sent = self.messages.try_send(Message::Look);
    }

    /// The dialect of the database.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Asks a question, and returns at once. `then` gets the answer, on the explaining thread.
    ///
    /// `sql` is one statement. Each `{}` in it is replaced by `numbers`, separated by commas. In PostgreSQL, each column of
    /// its result must have a type of text, such as `pid::text`. Returns false, and drops `then`, if too many questions
    /// wait already, or there is no thread for them.
    pub(crate) fn ask(
        &self,
        sql: &'static str,
        numbers: &[i64],
        then: impl FnOnce(Answer<Vec<TextRow>>) + Send + 'static,
    ) -> bool {
        let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
        let question = Question {
            sql: sql.replace("{}", &numbers.join(", ")),
            then: Box::new(then),
        };
        match self.messages.try_send(Message::Question(question)) {
            Ok(()) => self.start(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Starts the thread, unless it runs. Returns whether it runs.
    fn start(&self) -> bool {
        let mut unstarted = self
            .unstarted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match unstarted.take() {
            Some(parts) => thread::start(parts, self.dialect),
            None => true,
        }
    }
}

impl fmt::Debug for Explainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explainer")
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

/// The explainers of the open pools of one monitoring, by the names of the pools. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Explainers(Arc<Mutex<HashMap<Box<str>, Weak<Explainer>>>>);

impl Explainers {
    /// Adds the explainer of a pool, for as long as the pool is open.
    pub(super) fn add(&self, pool: &str, explainer: &Arc<Explainer>) {
        let mut explainers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        explainers.retain(|_, explainer| explainer.strong_count() > 0);
        explainers.insert(pool.into(), Arc::downgrade(explainer));
    }

    /// The explainer of the open pool of this name. `None` for a pool that is monitored without a change of its type, whose
    /// manager nobody else can use.
    pub(crate) fn of(&self, pool: &str) -> Option<Arc<Explainer>> {
        let explainers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        explainers.get(pool)?.upgrade()
    }
}
