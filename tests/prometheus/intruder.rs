//! Another client of a server's database, which locks it or removes its table.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

use crate::support::server::Server;

/// Statements, each with the pause after it.
pub(crate) type Cycle = &'static [(&'static str, Duration)];

/// Blocks all other writes until the intruder is dropped.
pub(crate) const LOCKED: Cycle = &[
    ("BEGIN IMMEDIATE", Duration::MAX),
    ("COMMIT", Duration::ZERO),
];

/// Blocks other writes for half a second, repeatedly. A waiting writer tries every tenth of a second.
pub(crate) const SLOWED: Cycle = &[
    ("BEGIN IMMEDIATE", Duration::from_millis(500)),
    ("COMMIT", Duration::from_millis(150)),
];

/// Blocks other writes for longer than a writer waits, then removes the table for a moment.
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

/// Repeats a cycle on a thread. When dropped, it finishes the cycle without pauses.
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
                    // Nothing is sent. The channel only closes.
                    goes_on = stopped.recv_timeout(*pause) == Err(RecvTimeoutError::Timeout);
                }
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Returns whether the thread still runs.
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
