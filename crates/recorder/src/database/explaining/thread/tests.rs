use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use diesel::prelude::*;

use super::*;
use crate::database::connection::fixture::Fixture;
use crate::database::explaining::{Explainer, MOST_WAITING, TextRow};
use crate::database::plans::{Plans, Study};

/// No test waits longer than this.
const BOUND: Duration = Duration::from_secs(30);

const QUICK: Pace = Pace {
    interval: Duration::ZERO,
    idle: BOUND,
};

/// What fake connections were asked, in order. `closed` when one was dropped.
type Log = Arc<Mutex<Vec<String>>>;

/// Answers each statement with itself, and fails as its text says.
struct Fake(Log);

impl Fake {
    fn log(&self, sql: &str) -> Answer<()> {
        self.0.lock().unwrap().push(sql.to_owned());
        match sql {
            "lost" => Err(AskError::Unreachable),
            "denied" => Err(AskError::Denied),
            "panics" => panic!("a driver panicked"),
            _ => Ok(()),
        }
    }
}

impl Asked for Fake {
    fn run(&mut self, sql: &str) -> Answer<()> {
        self.log(sql)
    }

    fn rows(&mut self, sql: &str) -> Answer<Vec<TextRow>> {
        self.log(sql)?;
        Ok(vec![vec![Some(sql.to_owned()), None]])
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("closed".to_owned());
    }
}

fn fake(log: &Log) -> Open {
    let log = Arc::clone(log);
    Box::new(move || Ok(Box::new(Fake(Arc::clone(&log)))))
}

/// An explainer whose thread has this pace.
fn explainer(dialect: Dialect, open: Open, pace: Pace) -> Arc<Explainer> {
    let explainer = Explainer::new("test", dialect, open, None);
    let parts = explainer.unstarted.lock().unwrap().take().unwrap();
    thread::spawn(move || ExplainingThread::new(parts, dialect, pace).run());
    explainer
}

fn ask(explainer: &Explainer, sql: &'static str) -> Receiver<Answer<Vec<TextRow>>> {
    let (send, answer) = channel();
    assert!(explainer.ask(sql, &[], move |rows| drop(send.send(rows))));
    answer
}

fn answer(explainer: &Explainer, sql: &'static str) -> Answer<Vec<TextRow>> {
    ask(explainer, sql).recv_timeout(BOUND).unwrap()
}

#[test]
fn a_question_runs_in_a_read_only_transaction_that_is_rolled_back() {
    for (dialect, session, begin, end) in [
        (
            Dialect::PostgreSql,
            POSTGRES_SESSION,
            Some(POSTGRES_BEGIN),
            Some("ROLLBACK"),
        ),
        (Dialect::Sqlite, SQLITE_SESSION, None, None),
        (
            Dialect::MySql,
            MYSQL_SESSION,
            Some("START TRANSACTION READ ONLY"),
            Some("ROLLBACK"),
        ),
    ] {
        let log = Log::default();
        let explainer = explainer(dialect, fake(&log), QUICK);
        assert!(log.lock().unwrap().is_empty(), "opened before a question");
        for question in ["first", "denied"] {
            let expected = match question {
                "denied" => Err(AskError::Denied),
                _ => Ok(vec![vec![Some(question.to_owned()), None]]),
            };
            assert_eq!(answer(&explainer, question), expected);
        }
        let asked = |question| [begin, Some(question), end].into_iter().flatten();
        let expected: Vec<_> = [session]
            .into_iter()
            .chain(asked("first"))
            .chain(asked("denied"))
            .collect();
        assert_eq!(*log.lock().unwrap(), expected, "{dialect:?}");
    }
}

#[test]
fn numbers_are_put_into_the_text() {
    let log = Log::default();
    let explainer = explainer(Dialect::Sqlite, fake(&log), QUICK);
    let (send, answer) = channel();
    let sql = "SELECT name FROM t WHERE id IN ({})";
    assert!(explainer.ask(sql, &[1, -2, i64::MIN], move |rows| {
        send.send(rows).unwrap();
    }));
    let rows = answer.recv_timeout(BOUND).unwrap().unwrap();
    let asked = rows[0][0].as_deref();
    assert_eq!(
        asked,
        Some("SELECT name FROM t WHERE id IN (1, -2, -9223372036854775808)")
    );
}

/// A connection that is lost after its first question.
struct Aging {
    begun: bool,
    fake: Fake,
}

impl Asked for Aging {
    fn run(&mut self, sql: &str) -> Answer<()> {
        if sql == POSTGRES_BEGIN && std::mem::replace(&mut self.begun, true) {
            return Err(AskError::Unreachable);
        }
        self.fake.run(sql)
    }

    fn rows(&mut self, sql: &str) -> Answer<Vec<TextRow>> {
        self.fake.rows(sql)
    }
}

#[test]
fn a_connection_that_was_lost_since_its_last_question_costs_no_answer() {
    let log = Log::default();
    let opened = Arc::clone(&log);
    let open = move || -> Answer<Box<dyn Asked>> {
        let fake = Fake(Arc::clone(&opened));
        Ok(Box::new(Aging { begun: false, fake }))
    };
    let explainer = explainer(Dialect::PostgreSql, Box::new(open), QUICK);
    for question in ["first", "second", "third"] {
        assert!(answer(&explainer, question).is_ok(), "{question}");
    }
    let asked = |question| [POSTGRES_SESSION, POSTGRES_BEGIN, question, "ROLLBACK"];
    let [first, second, third] = ["first", "second", "third"].map(asked);
    let expected = [&first[..], &["closed"], &second, &["closed"], &third].concat();
    assert_eq!(*log.lock().unwrap(), expected);
}

#[test]
fn a_lost_connection_and_a_panic_cost_one_answer_each() {
    let log = Log::default();
    let explainer = explainer(Dialect::Sqlite, fake(&log), QUICK);
    assert_eq!(answer(&explainer, "lost"), Err(AskError::Unreachable));
    assert_eq!(answer(&explainer, "panics"), Err(AskError::Rejected));
    assert!(answer(&explainer, "goes on").is_ok());
    let session = SQLITE_SESSION;
    assert_eq!(
        *log.lock().unwrap(),
        [
            session, "lost", "closed", session, "panics", "closed", session, "goes on"
        ]
    );
    // The function that gets the answer may panic as well.
    assert!(explainer.ask("unheard", &[], |_| panic!("the asker panicked")));
    assert!(answer(&explainer, "goes on").is_ok());
}

#[test]
fn a_database_that_is_gone_is_asked_again_by_the_next_question() {
    let attempts = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&attempts);
    let open: Open = Box::new(move || {
        let mut attempts = counted.lock().unwrap();
        *attempts += 1;
        match *attempts {
            1 => Err(AskError::Unreachable),
            2 => {
                drop(attempts);
                panic!("the opener panicked")
            }
            _ => Ok(Box::new(Fake(Log::default()))),
        }
    });
    let explainer = explainer(Dialect::PostgreSql, open, QUICK);
    for expected in [
        Some(AskError::Unreachable),
        Some(AskError::Unreachable),
        None,
    ] {
        assert_eq!(answer(&explainer, "SELECT 1").err(), expected);
    }
}

#[test]
fn an_idle_connection_and_that_of_a_closed_pool_are_closed() {
    let wait_for_close = |log: &Log| {
        let deadline = Instant::now() + BOUND;
        while log
            .lock()
            .unwrap()
            .last()
            .is_none_or(|last| last != "closed")
        {
            assert!(Instant::now() < deadline, "the connection is still open");
            thread::yield_now();
        }
    };
    let log = Log::default();
    let pace = Pace {
        idle: Duration::from_millis(1),
        ..QUICK
    };
    let short = explainer(Dialect::Sqlite, fake(&log), pace);
    assert!(answer(&short, "first").is_ok());
    wait_for_close(&log);
    assert!(answer(&short, "second").is_ok());

    let log = Log::default();
    let lasting = explainer(Dialect::Sqlite, fake(&log), QUICK);
    assert!(answer(&lasting, "first").is_ok());
    drop(lasting);
    wait_for_close(&log);
}

#[test]
fn questions_are_at_least_an_interval_apart() {
    let log = Log::default();
    let pace = Pace {
        interval: Duration::from_millis(30),
        ..QUICK
    };
    let explainer = explainer(Dialect::Sqlite, fake(&log), pace);
    let started = Instant::now();
    for _ in 0..4 {
        assert!(answer(&explainer, "SELECT 1").is_ok());
    }
    assert!(started.elapsed() >= 3 * pace.interval);
}

#[test]
fn no_question_waits_for_the_pace_of_explanations() {
    let pace = Pace {
        interval: 2 * BOUND,
        ..QUICK
    };
    let explainer = Explainer::new("test", Dialect::Sqlite, fake(&Log::default()), None);
    let parts = explainer.unstarted.lock().unwrap().take().unwrap();
    thread::spawn(move || {
        let mut explaining = ExplainingThread::new(parts, Dialect::Sqlite, pace);
        explaining.explained = Some(Instant::now());
        explaining.run();
    });
    assert!(answer(&explainer, "SELECT 1").is_ok());
}

#[test]
fn nobody_waits_for_a_database_that_does_not_answer() {
    let (release, released): (Sender<()>, Receiver<()>) = channel();
    let open: Open = Box::new(move || {
        let _released = released.recv();
        Err(AskError::Unreachable)
    });
    let explainer = explainer(Dialect::PostgreSql, open, QUICK);
    let accepted = |_| explainer.ask("SELECT 1", &[], |_| {});
    // One is being asked, or is about to be.
    let accepted = (0..20).filter(|asked| accepted(*asked)).count();
    assert!((MOST_WAITING..=MOST_WAITING + 1).contains(&accepted));
    drop(release);
}

/// Counts the events of the thread that explains.
struct Events(Arc<Mutex<usize>>);

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        // Another test of this process may watch panics, which are then logged, too.
        if event.metadata().target().ends_with("explaining::thread") {
            *self.0.lock().unwrap() += 1;
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn failures_of_all_kinds_are_logged_once_an_hour() {
    let events = Arc::default();
    tracing::subscriber::with_default(Events(Arc::clone(&events)), || {
        let mut session = ExplainingSession::new(Dialect::PostgreSql);
        let log = Log::default();
        let working = fake(&log);
        let broken: Open = Box::new(|| Err(AskError::Unreachable));
        for sql in ["denied", "lost", "panics"].repeat(10) {
            assert!(
                session
                    .within("test", &working, |asked| asked.run(sql))
                    .is_err()
            );
            assert!(
                session.within("test", &broken, |_| Ok(())).is_err()
                    || session.connection.is_some()
            );
        }
    });
    assert_eq!(*events.lock().unwrap(), 1);
}

/// A connection that answers every question like this.
struct Same(Answer<Vec<TextRow>>);

impl Asked for Same {
    fn run(&mut self, _: &str) -> Answer<()> {
        Ok(())
    }

    fn rows(&mut self, _: &str) -> Answer<Vec<TextRow>> {
        self.0.clone()
    }
}

#[test]
fn a_thread_whose_plans_were_turned_off_waits_for_questions_only() {
    for (dialect, answer, asked) in [
        // No file: the database is in memory.
        (Dialect::Sqlite, Ok(Vec::new()), 1),
        (Dialect::PostgreSql, Err(AskError::Denied), 3),
    ] {
        let fixture = Fixture::new();
        let statements = fixture.database.statements();
        statements.keep_texts();
        let mut connection = fixture.connection();
        for column in ["a", "b", "c", "d", "e"] {
            let sql = format!("SELECT id AS {column} FROM items");
            diesel::sql_query(sql).execute(&mut connection).unwrap();
        }
        let plans = Plans::new(true, Arc::clone(&fixture.families.plan_changes));
        let opened = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&opened);
        let open: Open = Box::new(move || {
            *counted.lock().unwrap() += 1;
            Ok(Box::new(Same(answer.clone())))
        });
        let (_sender, messages) = sync_channel(1);
        let parts = Unstarted {
            pool: "".into(),
            open,
            messages,
            study: Study::new(&Arc::from(""), dialect, &plans, statements),
        };
        let mut thread = ExplainingThread::new(parts, dialect, QUICK);
        for _ in 0..asked {
            thread.use_time();
        }
        assert!(*opened.lock().unwrap() > 0, "{dialect:?}");
        thread.use_time();
        assert_eq!(thread.patience(), BOUND, "{dialect:?}");
    }
}

#[test]
fn questions_without_a_pause_do_not_keep_statements_from_being_explained() {
    let fixture = Fixture::new();
    let statements = fixture.database.statements();
    statements.keep_texts();
    let plans = Plans::new(true, Arc::clone(&fixture.families.plan_changes));
    let (sender, messages) = sync_channel(1);
    let parts = Unstarted {
        pool: "".into(),
        open: fake(&Log::default()),
        messages,
        study: Study::new(&Arc::from(""), Dialect::Sqlite, &plans, statements),
    };
    let mut thread = ExplainingThread::new(parts, Dialect::Sqlite, QUICK);
    thread.use_time();
    let first = thread.patience();
    thread::sleep(Duration::from_millis(20));
    thread.answer(Question {
        sql: "SELECT 1".to_owned(),
        then: Box::new(|_| {}),
    });
    let rest = thread.patience();
    assert!(
        rest + Duration::from_millis(20) <= first,
        "{rest:?} after {first:?}"
    );
    drop(sender);
}
