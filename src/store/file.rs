//! The file of an SQLite database: checks that its path still leads to the open file, and that the file is writable.
//!
//! SQLite keeps using a file that was removed or replaced, and its commits are lost when the process ends. The same holds for
//! its write-ahead log. The connections are in `pool`.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use actix_vitals::database::ErrorKind;
use diesel::{QueryResult, result::Error as DieselError};

use super::{connection::Connection, error::WorkError, queries};

/// The pause between two checks of the path while no request writes.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// A health check writes if the last write is older than this. While the writer is busy and cannot check, a write that failed
/// counts as long.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// Device and inode.
type FileId = (u64, u64);

/// An open database file.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    id: FileId,
    /// The path of the write-ahead log.
    log_path: PathBuf,
    state: Mutex<FileState>,
}

#[derive(Debug, Default)]
struct FileState {
    /// The write-ahead log, once it exists.
    log: Option<FileId>,
    is_lost: bool,
    /// The time of the last write. `None` if it failed.
    written: Option<Instant>,
    /// The time of the last write that a request made, if the disk or the file was why it failed.
    failed: Option<Instant>,
}

impl DatabaseFile {
    /// Watches the file at this path until the result is dropped.
    pub(super) fn watch(path: &Path) -> io::Result<Arc<Self>> {
        let mut log_path = fs::canonicalize(path)?.into_os_string();
        log_path.push("-wal");
        let file = Arc::new(Self {
            path: path.to_owned(),
            id: file_id(path)?,
            log_path: log_path.into(),
            state: Mutex::default(),
        });
        let watched = Arc::downgrade(&file);
        thread::Builder::new()
            .name("database-file".to_owned())
            .spawn(move || keep_watch(&watched))?;
        Ok(file)
    }

    /// A connection was opened. If it is the only one, SQLite has created a new log.
    pub(super) fn opened(&self) {
        self.lock().log = None;
    }

    /// Runs work that writes. Fails if the path leads to another file before or after it.
    pub(super) fn write<T>(&self, work: impl FnOnce() -> QueryResult<T>) -> Result<T, WorkError> {
        if !self.is_in_place() {
            return Err(WorkError::FileLost);
        }
        let result = work();
        if !self.is_in_place() {
            return Err(WorkError::FileLost);
        }
        self.wrote(result.is_ok());
        if let Err(error) = &result
            && ErrorKind::of(error) == Some(ErrorKind::Other)
        {
            self.lock().failed = Some(Instant::now());
        }
        result.map_err(WorkError::Query)
    }

    /// Checks that the path leads to the open file and that the file is writable. Writes only if the last write is old.
    /// Afterwards, the connection waits for locks for `lock_timeout`.
    pub(super) fn check(
        &self,
        connection: &mut Connection,
        lock_timeout: Duration,
    ) -> QueryResult<()> {
        self.check_path()?;
        let age = self.lock().written.map(|written| written.elapsed());
        if age.is_some_and(|age| age < WRITE_PAUSE) {
            return Ok(());
        }
        let written = queries::probe_writing(connection, lock_timeout);
        self.wrote(written.is_ok());
        written
    }

    /// Checks that the path leads to the open file.
    pub(super) fn check_path(&self) -> QueryResult<()> {
        if self.is_in_place() {
            Ok(())
        } else {
            Err(error("its file was removed or replaced"))
        }
    }

    /// Checks that the path leads to the open file and that no request has just failed to write. The writer itself cannot
    /// check while requests keep it busy.
    pub(super) fn check_beside_writer(&self) -> QueryResult<()> {
        self.check_path()?;
        let failed = self.lock().failed;
        if failed.is_some_and(|failed| failed.elapsed() < WRITE_PAUSE) {
            return Err(error("its last write failed"));
        }
        Ok(())
    }

    fn wrote(&self, is_ok: bool) {
        let mut state = self.lock();
        state.written = is_ok.then(Instant::now);
        if is_ok {
            state.failed = None;
        }
    }

    /// Whether the path leads to the open file and to its write-ahead log. Logs each change of the result.
    fn is_in_place(&self) -> bool {
        let has_file = file_id(&self.path).is_ok_and(|found| found == self.id);
        let log = file_id(&self.log_path).ok();
        let mut state = self.lock();
        state.log = state.log.or(log);
        let is_lost = !has_file || log != state.log;
        if is_lost != std::mem::replace(&mut state.is_lost, is_lost) {
            let path = self.path.display();
            if is_lost {
                tracing::error!(
                    %path,
                    "the database file or its log was removed or replaced: \
                     writes are refused until it is back or the service restarts"
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

fn file_id(path: &Path) -> io::Result<FileId> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn error(reason: &'static str) -> DieselError {
    DieselError::QueryBuilderError(reason.into())
}
