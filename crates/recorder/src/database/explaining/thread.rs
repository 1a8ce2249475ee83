//! The explaining thread of one pool: when the connection is opened, used and closed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use super::hourly::Hourly;
use super::{Answer, AskError, Asked, Message, Open, Question, Unstarted};
use crate::database::sql::Dialect;

/// When the thread asks, and how long it keeps its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The least time between the beginnings of two questions, and between those of two explanations.
    interval: Duration,
    /// A connection without a question for this long is closed.
    idle: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            idle: Duration::from_secs(30),
        }
    }
}

/// Sets up a new connection to PostgreSQL. Behind `PgBouncer`, a session may have several connections to the server one
/// after another: all other settings belong to a transaction, so that none stays behind. `PgBouncer` keeps this one apart.
const POSTGRES_SESSION: &str = "SET application_name = 'actix-vitals explaining'";

/// Begins a transaction that cannot write, in which no statement and no wait for a lock lasts for over half a second. The
/// wait has the shorter limit, so that the error says what it was.
const POSTGRES_BEGIN: &str = "BEGIN READ ONLY; \
    SET LOCAL statement_timeout = 500; \
    SET LOCAL lock_timeout = 400";

/// Sets up a new connection to SQLite.
const SQLITE_SESSION: &str = "PRAGMA query_only = ON; PRAGMA busy_timeout = 500";

/// Sets up a new connection to MySQL or MariaDB, which have different names for the bound of a statement. Those of locks
/// are in seconds.
const MYSQL_SESSION: &str =
    "SET SESSION lock_wait_timeout = 1, SESSION innodb_lock_wait_timeout = 1";

/// Starts the thread. Returns false, and logs it, if the system has none.
pub(super) fn start(parts: Unstarted, dialect: Dialect) -> bool {
    let pool = parts.pool.clone();
    let started = thread::Builder::new()
        .name("vitals-explain".to_owned())
        .spawn(move || ExplainingThread::new(parts, dialect, Pace::default()).run());
    if let Err(error) = &started {
        tracing::warn!(pool = &*pool, %error, "the thread that asks the database about itself cannot be started");
    }
    started.is_ok()
}

struct ExplainingThread {
    parts: Unstarted,
    session: ExplainingSession,
    pace: Pace,
    /// When the last question was asked.
    asked: Option<Instant>,
    /// When the last statement was explained. Questions about locks have their own pace.
    explained: Option<Instant>,
}

impl ExplainingThread {
    fn new(parts: Unstarted, dialect: Dialect, pace: Pace) -> Self {
        Self {
            parts,
            pace,
            session: ExplainingSession::new(dialect),
            asked: None,
            explained: None,
        }
    }

    /// Answers questions and explains statements, until the pool is closed.
    fn run(mut self) {
        loop {
            let has_time = match self.parts.messages.recv_timeout(self.patience()) {
                Ok(Message::Question(question)) => {
                    self.answer(question);
                    // The next question may wait already.
                    self.patience().is_zero()
                }
                Ok(Message::Look) => false,
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // A study that panics is given up. Questions go on.
            if has_time && catch_unwind(AssertUnwindSafe(|| self.use_time())).is_err() {
                self.parts.study = None;
            }
        }
    }

    /// How long to wait for a question before there is something else to do.
    fn patience(&self) -> Duration {
        match &self.parts.study {
            Some(study) if study.is_due() => self.until_next(self.explained),
            // Questions do not put off the next look.
            Some(study) => study.until_look(Instant::now()).min(self.pace.idle),
            None => self.pace.idle,
        }
    }

    /// Explains the next statement, or closes a connection that is idle.
    fn use_time(&mut self) {
        let now = Instant::now();
        // Statements may still wait to be explained. They would keep the thread awake.
        self.parts.study.take_if(|study| study.is_off());
        let study = self.parts.study.as_mut();
        let Some(number) = study.and_then(|study| study.next(now)) else {
            let is_idle = |last: Instant| now.saturating_duration_since(last) >= self.pace.idle;
            if self.asked.max(self.explained).is_none_or(is_idle) {
                self.session.close();
            }
            return;
        };
        thread::sleep(self.until_next(self.explained));
        self.explained = Some(Instant::now());
        let Unstarted {
            pool, open, study, ..
        } = &mut self.parts;
        let Some(study) = study else {
            return;
        };
        let mut is_asked = false;
        let answer = self.session.within(pool, open, |connection| {
            is_asked = true;
            study.explain(number, connection)
        });
        if let (Err(error), false) = (answer, is_asked) {
            study.unasked(number, error);
        }
    }

    fn answer(&mut self, question: Question) {
        thread::sleep(self.until_next(self.asked));
        self.asked = Some(Instant::now());
        let Unstarted { pool, open, .. } = &self.parts;
        let answer = self
            .session
            .within(pool, open, |connection| connection.rows(&question.sql));
        // A function that panics costs its own answer.
        let _panic = catch_unwind(AssertUnwindSafe(|| (question.then)(answer)));
    }

    /// The time until the next question or explanation after the last one.
    fn until_next(&self, last: Option<Instant>) -> Duration {
        last.map_or(Duration::ZERO, |last| {
            (self.pace.interval).saturating_sub(last.elapsed())
        })
    }
}

/// The connection, while it is open, and what was logged about it.
struct ExplainingSession {
    dialect: Dialect,
    connection: Option<Box<dyn Asked>>,
    log: Hourly,
}

impl ExplainingSession {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            connection: None,
            log: Hourly::default(),
        }
    }

    fn close(&mut self) {
        self.connection = None;
    }

    /// Runs `ask` on the connection within a transaction that is rolled back. A connection whose transaction cannot be
    /// rolled back is closed.
    fn within<T>(
        &mut self,
        pool: &str,
        open: &Open,
        ask: impl FnOnce(&mut dyn Asked) -> Answer<T>,
    ) -> Answer<T> {
        let answer = self.begun(open).and_then(|mut connection| {
            let asked = catch_unwind(AssertUnwindSafe(|| {
                let answer = ask(connection.as_mut());
                let rolled_back = roll_back(connection.as_mut(), self.dialect);
                (answer, rolled_back.is_ok())
            }));
            let (answer, is_clean) = asked.unwrap_or((Err(AskError::Rejected), false));
            if is_clean && answer.as_ref().err() != Some(&AskError::Unreachable) {
                self.connection = Some(connection);
            }
            answer
        });
        if let Err(error) = &answer {
            self.note(pool, *error);
        }
        answer
    }

    /// Takes the connection, and begins a transaction on it. A connection from before may have been lost since its last
    /// question; then a new one takes its place.
    fn begun(&mut self, open: &Open) -> Answer<Box<dyn Asked>> {
        if let Some(mut kept) = self.connection.take() {
            match begin(kept.as_mut(), self.dialect) {
                Ok(()) => return Ok(kept),
                Err(AskError::Unreachable) => {}
                Err(error) => return Err(error),
            }
        }
        let opened = catch_unwind(AssertUnwindSafe(open));
        let mut connection = opened.unwrap_or(Err(AskError::Unreachable))?;
        match self.dialect {
            Dialect::PostgreSql => connection.run(POSTGRES_SESSION)?,
            Dialect::Sqlite => connection.run(SQLITE_SESSION)?,
            Dialect::MySql => connection.run(MYSQL_SESSION)?,
            Dialect::Unknown => return Err(AskError::Rejected),
        }
        begin(connection.as_mut(), self.dialect)?;
        Ok(connection)
    }

    fn note(&mut self, pool: &str, error: AskError) {
        if self.log.allows(Instant::now()) {
            tracing::warn!(
                pool,
                reason = error.reason(),
                "the database gives no information about itself: plans and holders of locks may be missing (logged once an hour)"
            );
        }
    }
}

fn begin(connection: &mut dyn Asked, dialect: Dialect) -> Answer<()> {
    match dialect {
        Dialect::PostgreSql => connection.run(POSTGRES_BEGIN),
        Dialect::MySql => connection.run("START TRANSACTION READ ONLY"),
        // A transaction would keep the write-ahead log from being reset. `query_only` suffices.
        Dialect::Sqlite | Dialect::Unknown => Ok(()),
    }
}

fn roll_back(connection: &mut dyn Asked, dialect: Dialect) -> Answer<()> {
    match dialect {
        Dialect::PostgreSql | Dialect::MySql => connection.run("ROLLBACK"),
        Dialect::Sqlite | Dialect::Unknown => Ok(()),
    }
}

#[cfg(test)]
mod tests;
