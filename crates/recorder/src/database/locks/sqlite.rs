//! Finds the process that has the write lock of a file of SQLite, and joins that with the connections of this process.
//!
//! SQLite locks bytes of its files, and Linux lists the locks of all processes in `/proc/locks`. A write-ahead log has its
//! write lock in the file `-shm`, a rollback journal in the database itself (<https://www.sqlite.org/walformat.html>,
//! <https://www.sqlite.org/lockingv3.html>).

use std::{fs, os::unix::fs::MetadataExt as _, time::Duration};

use super::{
    OwnConnection,
    report::{LockParty, LockPartyKind, LockWait},
};
use crate::database::{
    HeldConnection, HoldActivity, explaining::TextRow, sql::Operation, statements::Statements,
};

/// The path of the database.
pub(super) const QUESTION: &str = "SELECT file FROM pragma_database_list WHERE name = 'main'";

/// The byte of the write lock in the file `-shm`.
const WAL_WRITE_LOCK: u64 = 120;

/// The byte of the lock that one writer has, in the file of the database.
const RESERVED_BYTE: u64 = 0x4000_0001;

/// A statement that writes and runs for longer waits for the lock, if another connection has it.
const SHORT: Duration = Duration::from_millis(200);

/// Which process has the write lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockHolder {
    Nobody,
    ThisProcess,
    OtherProcess,
}

/// A file as the kernel identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

/// The files that hold the locks of a database.
#[derive(Debug)]
pub(super) struct LockedFile {
    main: FileIdentity,
    shared_memory: Option<FileIdentity>,
}

impl FileIdentity {
    fn of(path: &str) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl LockedFile {
    /// The files of the database with the path in an answer. `None` for a database in memory.
    pub(super) fn of(rows: &[TextRow]) -> Option<Self> {
        let path = rows.first()?.first()?.as_deref()?;
        Some(Self {
            main: FileIdentity::of(path)?,
            shared_memory: FileIdentity::of(&format!("{path}-shm")),
        })
    }

    /// What pools of this database have in common.
    pub(super) fn identity(&self) -> String {
        format!("{}:{}", self.main.device, self.main.inode)
    }

    /// Which process has the write lock. `None` if the system does not say.
    pub(super) fn holder(&self) -> Option<LockHolder> {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        Some(self.holder_in(&locks, std::process::id()))
    }

    fn holder_in(&self, locks: &str, own: u32) -> LockHolder {
        let holder = locks.lines().find_map(|line| self.process_of(line));
        match holder {
            None => LockHolder::Nobody,
            Some(process) if process == own => LockHolder::ThisProcess,
            Some(_) => LockHolder::OtherProcess,
        }
    }

    /// The process in a line of `/proc/locks`, if that is about the write lock:
    /// `1: POSIX  ADVISORY  WRITE 3568 08:01:917783 120 120`.
    fn process_of(&self, line: &str) -> Option<u32> {
        let mut fields = line.split_whitespace().skip(1);
        // A line with `->` is about a process that waits.
        let is_write = fields.next()? == "POSIX" && fields.nth(1)? == "WRITE";
        let process = fields.next()?.parse().ok()?;
        let (device, inode) = fields.next()?.rsplit_once(':')?;
        let (major, minor) = device.split_once(':')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (major, minor, inode) = (number(major)?, number(minor)?, inode.parse().ok()?);
        let start: u64 = fields.next()?.parse().ok()?;
        let end = fields.next()?;
        let has = |byte| start <= byte && end.parse().map_or(end == "EOF", |end: u64| byte <= end);
        let covers = |file: FileIdentity| {
            (file.inode, device_numbers(file.device)) == (inode, (major, minor))
        };
        let is_lock = self
            .shared_memory
            .is_some_and(|file| covers(file) && has(WAL_WRITE_LOCK))
            || covers(self.main) && has(RESERVED_BYTE);
        (is_write && is_lock).then_some(process)
    }
}

/// The major and the minor number of a device, as glibc's `makedev` packs them.
fn device_numbers(device: u64) -> (u64, u64) {
    let major = (device >> 8) & 0xfff | (device >> 32) & !0xfff;
    let minor = device & 0xff | (device >> 12) & !0xff;
    (major, minor & 0xffff_ffff)
}

/// Joins the holder of the write lock with the connections of this process.
pub(super) fn join(
    holder: LockHolder,
    connections: &[OwnConnection],
    statements: &Statements,
) -> Vec<LockWait> {
    let may_write = |hold: &HeldConnection| {
        let operation = hold
            .statement
            .and_then(|number| statements.operation(number));
        // A statement without a number begins a transaction, or is not kept.
        operation != Some(Operation::Select)
    };
    let held = || {
        connections
            .iter()
            .filter_map(|own| Some((own, own.hold.as_ref()?)))
    };
    let in_transaction = || {
        let is_idle = |hold: &HeldConnection| hold.activity == HoldActivity::IdleInTransaction;
        let mut idle = held().filter(|(_, hold)| is_idle(hold));
        idle.next().filter(|_| idle.next().is_none())
    };
    let owner = match holder {
        LockHolder::Nobody => return Vec::new(),
        LockHolder::ThisProcess => held()
            .find(|(own, _)| own.has_written)
            .or_else(in_transaction),
        LockHolder::OtherProcess => None,
    };
    let owner = owner.map(|(_, hold)| hold);
    let is_writer = |hold: &&HeldConnection| {
        let is_owner = owner.is_some_and(|owner| std::ptr::eq(owner, *hold));
        hold.activity == HoldActivity::Query
            && hold.activity_age >= SHORT
            && !is_owner
            && may_write(hold)
    };
    let writers: Vec<_> = held().map(|(_, hold)| hold).filter(is_writer).collect();
    let of_lock = match (holder, owner) {
        (_, Some(owner)) => LockParty::of(owner),
        (LockHolder::OtherProcess, None) => LockParty::without_activity(LockPartyKind::Process),
        // The only one that writes is the most probable holder.
        (_, None) if writers.len() == 1 => return Vec::new(),
        (_, None) => LockParty::without_activity(LockPartyKind::ThisProcess(writers.len())),
    };
    let waits = writers.into_iter().map(|hold| LockWait {
        waiter: LockParty::of(hold),
        waited: hold.activity_age,
        chain: vec![of_lock.clone()],
        is_deadlock: false,
        others: 0,
    });
    let mut waits: Vec<_> = waits.collect();
    waits.sort_by_key(|wait| std::cmp::Reverse(wait.waited));
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_with_the_write_lock_is_found_among_all_locks() {
        let identity = |inode| FileIdentity {
            device: 0x801,
            inode,
        };
        let file = LockedFile {
            main: identity(50),
            shared_memory: Some(identity(51)),
        };
        for (locks, expected, why) in [
            ("", LockHolder::Nobody, "no locks"),
            (
                "1: POSIX  ADVISORY  WRITE 7 08:01:51 120 120",
                LockHolder::ThisProcess,
                "a log",
            ),
            (
                "1: POSIX  ADVISORY  WRITE 8 08:01:51 120 127",
                LockHolder::OtherProcess,
                "a range",
            ),
            (
                "1: POSIX  ADVISORY  WRITE 7 08:01:51 121 121",
                LockHolder::Nobody,
                "a checkpoint",
            ),
            (
                "1: POSIX  ADVISORY  READ  7 08:01:51 120 123",
                LockHolder::Nobody,
                "a reader",
            ),
            (
                "1: POSIX  ADVISORY  WRITE 7 08:01:52 120 120",
                LockHolder::Nobody,
                "another file",
            ),
            (
                "1: POSIX  ADVISORY  WRITE 7 08:02:51 120 120",
                LockHolder::Nobody,
                "another device",
            ),
            (
                "1: POSIX  ADVISORY  WRITE 7 08:01:50 1073741825 1073741825",
                LockHolder::ThisProcess,
                "a journal",
            ),
            (
                "1: POSIX  ADVISORY  WRITE 7 08:01:50 0 EOF",
                LockHolder::ThisProcess,
                "all of it",
            ),
            (
                "1: -> POSIX  ADVISORY  WRITE 7 08:01:51 120 120",
                LockHolder::Nobody,
                "one that waits",
            ),
            (
                "1: FLOCK  ADVISORY  WRITE 7 08:01:51 0 EOF",
                LockHolder::Nobody,
                "another kind",
            ),
            (
                "1: POSIX  ADVISORY  READ  7 08:01:50 1073741826 1073742335\n2: POSIX  ADVISORY  WRITE 9 08:01:51 120 120",
                LockHolder::OtherProcess,
                "one of several",
            ),
        ] {
            assert_eq!(file.holder_in(locks, 7), expected, "{why}: {locks}");
        }
    }

    #[test]
    fn a_lock_of_sqlite_is_found_in_the_list_of_the_kernel() {
        use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
        let directory = tempfile::tempdir().unwrap();
        for (name, mode) in [("wal.db", "WAL"), ("journal.db", "DELETE")] {
            let path = directory.path().join(name).display().to_string();
            let mut connection = SqliteConnection::establish(&path).unwrap();
            let setup =
                format!("PRAGMA journal_mode = {mode}; CREATE TABLE t (a); SELECT * FROM t");
            connection.batch_execute(&setup).unwrap();
            let holder = || {
                let file = LockedFile::of(&[vec![Some(path.clone())]]).unwrap();
                file.holder()
            };
            let expected = |held| holder().is_none_or(|holder| holder == held);
            assert!(expected(LockHolder::Nobody), "{mode}");
            connection.batch_execute("BEGIN IMMEDIATE").unwrap();
            assert!(
                expected(LockHolder::ThisProcess),
                "{mode}: {:?}",
                fs::read_to_string("/proc/locks")
            );
            connection
                .batch_execute("INSERT INTO t VALUES (1)")
                .unwrap();
            assert!(expected(LockHolder::ThisProcess), "{mode}");
            connection.batch_execute("COMMIT").unwrap();
            assert!(expected(LockHolder::Nobody), "{mode}");
        }
    }
}
