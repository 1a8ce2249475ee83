//! The file of an SQLite database: whether its path still leads to the file that is open, and whether it takes writes.
//!
//! SQLite goes on with a file that was removed or replaced, and what it commits there is lost when the process ends. Its
//! write-ahead log is no different. Not here: the connections.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::result::Error as DieselError;
use parking_lot::Mutex as Turn;

use super::connection::Connection;
use super::error::WorkError;
use super::queries;

/// The pause between two checks of the path while no request writes.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// A health check writes if the last write is older than this.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// How long a health check waits for its turn to write.
const TURN_PATIENCE: Duration = Duration::from_millis(200);

/// Device and inode.
type FileId = (u64, u64);

/// A database file that is open.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    identity: FileId,
    /// The path of the write-ahead log.
    log_path: PathBuf,
    state: Mutex<FileState>,
}

#[derive(Debug, Default)]
struct FileState {
    /// The write-ahead log, once it was seen.
    log: Option<FileId>,
    is_lost: bool,
    /// The last write that succeeded; `None` if the last one failed.
    written: Option<Instant>,
    has_failed: bool,
}

impl DatabaseFile {
    /// The file at this path, which is watched from now on until this is dropped.
    pub(super) fn watch(path: &Path) -> io::Result<Arc<Self>> {
        let mut log_path = fs::canonicalize(path)?.into_os_string();
        log_path.push("-wal");
        let file = Arc::new(Self {
            path: path.to_owned(),
            identity: identity(path)?,
            log_path: log_path.into(),
            state: Mutex::default(),
        });
        let watched = Arc::downgrade(&file);
        thread::Builder::new()
            .name("database-file".to_owned())
            .spawn(move || keep_watch(&watched))?;
        Ok(file)
    }

    /// A connection was opened: if it is the only one, SQLite has begun a new log.
    pub(super) fn opened(&self) {
        self.lock().log = None;
    }

    /// Runs work that writes. Fails where the path leads elsewhere, before the work or behind it.
    pub(super) fn write<T>(&self, work: impl FnOnce() -> QueryResult<T>) -> Result<T, WorkError> {
        if !self.is_in_place() {
            return Err(WorkError::FileLost);
        }
        let result = work();
        if !self.is_in_place() {
            return Err(WorkError::FileLost);
        }
        self.wrote(result.is_ok());
        result.map_err(WorkError::Query)
    }

    /// Whether the file is in its place and takes writes. Writes only if no write was made recently.
    pub(super) fn check(&self, connection: &mut Connection, turn: &Turn<()>) -> QueryResult<()> {
        self.check_place()?;
        let (is_due, has_failed) = {
            let state = self.lock();
            let age = state.written.map(|written| written.elapsed());
            (age.is_none_or(|age| age >= WRITE_PAUSE), state.has_failed)
        };
        if !is_due {
            return Ok(());
        }
        let Some(_turn) = turn.try_lock_for(TURN_PATIENCE) else {
            // Another write is under way. The result of the last write has to do.
            let failed = "writes to it fail";
            return if has_failed {
                Err(refusal(failed))
            } else {
                Ok(())
            };
        };
        let written = queries::probe_writing(connection);
        self.wrote(written.is_ok());
        written
    }

    /// Whether the file is in its place.
    pub(super) fn check_place(&self) -> QueryResult<()> {
        if self.is_in_place() {
            Ok(())
        } else {
            Err(refusal("its file was removed or replaced"))
        }
    }

    fn wrote(&self, is_ok: bool) {
        let mut state = self.lock();
        state.written = is_ok.then(Instant::now);
        state.has_failed = !is_ok;
    }

    /// Whether the path leads to the file that is open, and its log is there. The log has each change.
    fn is_in_place(&self) -> bool {
        let has_file = identity(&self.path).is_ok_and(|found| found == self.identity);
        let log = identity(&self.log_path).ok();
        let mut state = self.lock();
        state.log = state.log.or(log);
        let is_lost = !has_file || log != state.log;
        if is_lost != std::mem::replace(&mut state.is_lost, is_lost) {
            let path = self.path.display();
            if is_lost {
                tracing::error!(
                    %path,
                    "the database file or its log was removed or replaced: \
                     writes are refused until it is back or the service is started anew"
                );
            } else {
                tracing::info!(%path, "the database file is back");
            }
        }
        !is_lost
    }

    fn lock(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep_watch(file: &Weak<DatabaseFile>) {
    while let Some(file) = file.upgrade() {
        file.is_in_place();
        drop(file);
        thread::sleep(WATCH_PAUSE);
    }
}

fn identity(path: &Path) -> io::Result<FileId> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn refusal(reason: &'static str) -> DieselError {
    DieselError::QueryBuilderError(reason.into())
}
