//! Another user of a server's database, who locks it or takes its table away.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

use crate::support::server::Server;

/// Statements, each with how long to wait after it.
pub(crate) type Cycle = &'static [(&'static str, Duration)];

/// Nobody else writes, until the intruder is gone.
pub(crate) const LOCKED: Cycle = &[
    ("BEGIN IMMEDIATE", Duration::MAX),
    ("COMMIT", Duration::ZERO),
];

/// Nobody else writes for half a second, again and again. A writer that waits looks every tenth of a second.
pub(crate) const SLOWED: Cycle = &[
    ("BEGIN IMMEDIATE", Duration::from_millis(500)),
    ("COMMIT", Duration::from_millis(150)),
];

/// Nobody else writes for longer than the five seconds that SQLite lets a writer wait; then, for a moment, there is no table.
pub(crate) const TORMENTED: Cycle = &[
    ("BEGIN IMMEDIATE", Duration::from_secs(6)),
    ("COMMIT", Duration::from_secs(2)),
    (
        "ALTER TABLE items RENAME TO elsewhere",
        Duration::from_millis(300),
    ),
    (
        "ALTER TABLE elsewhere RENAME TO items",
        Duration::from_secs(2),
    ),
];

/// Goes through a cycle again and again on a thread; dropped, it hurries to the end of the cycle.
#[derive(Debug)]
pub(crate) struct Intruder {
    /// Dropped to end the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Intruder {
    pub(crate) fn start(server: &Server, cycle: Cycle) -> Self {
        let file = server.database().display().to_string();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut connection = SqliteConnection::establish(&file).expect("the database opens");
            let mut run = |sql: &str| connection.batch_execute(sql).expect("it is carried out");
            run("PRAGMA busy_timeout = 60000");
            let mut goes_on = true;
            while goes_on {
                for (sql, pause) in cycle {
                    run(sql);
                    // Nothing is ever sent: the channel is either open or not.
                    goes_on = stopped.recv_timeout(*pause) == Err(RecvTimeoutError::Timeout);
                }
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Whether it has not failed.
    pub(crate) fn lasts(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self
            .thread
            .take()
            .map(JoinHandle::join)
            .is_some_and(|end| end.is_err())
        {
            println!("the intruder's thread panicked");
        }
    }
}
