//! Asks PostgreSQL which of its processes wait for which others, and joins the answer with the connections of this process.

use std::{collections::HashMap, time::Duration};

use super::{
    OwnConnection,
    report::{LockParty, LockPartyKind, LockWait, MOST_OF_CHAIN},
};
use crate::database::{HoldActivity, explaining::TextRow};

/// The processes in question: those of this process's connections, those that wait for a lock, and those that they wait for.
macro_rules! parties {
    () => {
        "WITH waiting AS ( \
           SELECT pid, pg_catalog.pg_blocking_pids(pid) AS blockers \
           FROM (SELECT DISTINCT pid FROM pg_catalog.pg_locks WHERE NOT granted) AS process \
           ORDER BY pid = ANY (ARRAY[{}]::integer[]) DESC LIMIT 200 \
         ), party AS ( \
           SELECT pid FROM waiting \
           UNION SELECT pg_catalog.unnest(blockers) FROM waiting \
           UNION SELECT pg_catalog.unnest(ARRAY[{}]::integer[]) \
           UNION SELECT pg_catalog.pg_backend_pid() \
         ) "
    };
}

/// A row for each connection of this process, for each process of the server that waits for a lock, and for those that they
/// wait for. `{}` is replaced by the processes of this process's connections.
///
/// `pg_blocking_pids` is called for each process that waits, and for no other: it stops all locking for a moment. What
/// the role may not see of the connections of other roles is NULL.
pub(super) const QUESTION: &str = concat!(
    parties!(),
    "SELECT pid::text, \
      pg_catalog.array_to_string(blockers, ','), \
      (activity.pid IS NOT NULL)::text, \
      application_name::text, \
      backend_type::text, \
      state::text, \
      (extract(epoch FROM pg_catalog.clock_timestamp() - state_change) * 1000)::bigint::text, \
      (extract(epoch FROM pg_catalog.clock_timestamp() - backend_start) * 1000)::bigint::text, \
      pg_catalog.pg_postmaster_start_time()::text \
    FROM party LEFT JOIN waiting USING (pid) LEFT JOIN pg_catalog.pg_stat_activity AS activity USING (pid)"
);

/// The same for a role that may not read `pg_stat_activity`.
pub(super) const QUESTION_WITHOUT_ACTIVITY: &str = concat!(
    parties!(),
    "SELECT pid::text, \
      pg_catalog.array_to_string(blockers, ','), \
      NULL::text AS listed, \
      NULL::text AS name, \
      NULL::text AS kind, \
      NULL::text AS state, \
      NULL::text AS state_age, \
      NULL::text AS age, \
      pg_catalog.pg_postmaster_start_time()::text \
    FROM party LEFT JOIN waiting USING (pid)"
);

/// How much older than its connection a process may seem to be. Both ages are measured one after the other.
const TOLERANCE: Duration = Duration::from_secs(1);

/// The longest time that opening a connection may take.
const LONGEST_OPENING: Duration = Duration::from_secs(60);

/// For this long, a process must wait before its connection must be in a query. What an older answer says may be over.
pub(super) const SETTLED: Duration = Duration::from_secs(1);

/// The most characters of a name.
const LONGEST_NAME: usize = 64;

/// A process of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BackendRow {
    pid: u32,
    /// The processes that it waits for; 0 is a prepared transaction. Empty if it does not wait.
    blockers: Vec<u32>,
    /// Whether it exists, as far as the role may know.
    is_there: bool,
    /// Whether the role may see it.
    is_visible: bool,
    name: Option<String>,
    /// What kind of process it is; `None` if the role may not see that.
    kind: Option<String>,
    state: Option<String>,
    state_age: Duration,
    age: Option<Duration>,
    /// What identifies the server.
    pub(super) server: Box<str>,
}

/// What an answer says.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) waits: Vec<LockWait>,
    /// A process of the server serves several connections, or is older than the connection that it serves.
    pub(super) has_pooler: bool,
    /// A process waits for long, whose connection runs no query.
    pub(super) has_contradiction: bool,
}

/// Reads an answer. `None` if it has another form.
pub(super) fn read(rows: &[TextRow]) -> Option<Vec<BackendRow>> {
    rows.iter().map(|row| BackendRow::read(row)).collect()
}

impl BackendRow {
    fn read(row: &[Option<String>]) -> Option<Self> {
        let [
            pid,
            blockers,
            is_listed,
            name,
            kind,
            state,
            state_age,
            age,
            server,
        ] = row
        else {
            return None;
        };
        let milliseconds = |text: &Option<String>| {
            let number: i64 = text.as_deref()?.parse().ok()?;
            Some(Duration::from_millis(u64::try_from(number).unwrap_or(0)))
        };
        let blockers = blockers.as_deref().unwrap_or_default();
        Some(Self {
            pid: pid.as_deref()?.parse().ok()?,
            blockers: blockers
                .split(',')
                .filter_map(|pid| pid.parse().ok())
                .collect(),
            is_there: is_listed.as_deref() != Some("false"),
            is_visible: is_listed.as_deref() == Some("true"),
            name: name.as_deref().and_then(clean),
            kind: kind.clone(),
            state: state.clone(),
            state_age: milliseconds(state_age).unwrap_or_default(),
            age: milliseconds(age),
            server: server.as_deref()?.into(),
        })
    }

    fn activity(&self) -> Option<HoldActivity> {
        match self.state.as_deref()? {
            "active" | "fastpath function call" => Some(HoldActivity::Query),
            "idle" => Some(HoldActivity::Idle),
            state if state.starts_with("idle in transaction") => {
                Some(HoldActivity::IdleInTransaction)
            }
            _ => None,
        }
    }

    /// A process that serves no connection of this process.
    fn foreign(&self) -> LockParty {
        let kind = match self.kind.as_deref() {
            _ if !self.is_visible => LockPartyKind::Hidden,
            None | Some("client backend") => LockPartyKind::Program(self.name.clone()),
            Some(kind) => LockPartyKind::Server(kind.to_owned()),
        };
        LockParty {
            kind,
            activity: self.activity(),
            activity_age: self.state_age,
            statement: None,
        }
    }

    /// The process that serves a connection of this process.
    fn own(&self, connection: &OwnConnection) -> LockParty {
        let mut party = match &connection.hold {
            Some(hold) => LockParty::of(hold),
            None => LockParty::without_activity(LockPartyKind::Returned),
        };
        // The server knows of transactions that were begun in ways that no event shows.
        if let Some(activity) = self.activity() {
            party.activity = Some(activity);
            party.activity_age = self.state_age;
        }
        party
    }
}

/// A name without control characters, and not too long. `None` if it is empty.
fn clean(name: &str) -> Option<String> {
    let printable = name.chars().filter(|character| !character.is_control());
    let name: String = printable.take(LONGEST_NAME).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Joins an answer with the connections of this process.
pub(super) fn join(rows: &[BackendRow], connections: &[OwnConnection]) -> Joined {
    let mut joined = Joined::default();
    let rows: HashMap<u32, &BackendRow> = rows.iter().map(|row| (row.pid, row)).collect();
    let mut own: HashMap<u32, &OwnConnection> = HashMap::new();
    for connection in connections {
        let Some(row) = rows.get(&connection.backend).filter(|row| row.is_there) else {
            continue;
        };
        if let Some(age) = row.age {
            if age > connection.age + TOLERANCE {
                joined.has_pooler = true;
            }
            if age + LONGEST_OPENING < connection.age {
                // The connection is dead, and another one has got the number of its process.
                continue;
            }
        }
        if own.insert(connection.backend, connection).is_some() {
            joined.has_pooler = true;
        }
    }
    let graph = Graph { rows, own };
    for (pid, connection) in &graph.own {
        let Some(row) = graph.rows.get(pid).filter(|row| !row.blockers.is_empty()) else {
            continue;
        };
        match (connection.query_age(), &connection.hold) {
            (Some(waited), Some(hold)) => {
                joined
                    .waits
                    .push(graph.wait(row, LockParty::of(hold), waited));
            }
            _ => joined.has_contradiction |= row.state_age >= SETTLED,
        }
    }
    (joined.waits).sort_by_key(|wait| std::cmp::Reverse(wait.waited));
    joined
}

/// Which process waits for which.
struct Graph<'a> {
    rows: HashMap<u32, &'a BackendRow>,
    own: HashMap<u32, &'a OwnConnection>,
}

impl Graph<'_> {
    fn wait(&self, row: &BackendRow, waiter: LockParty, age: Duration) -> LockWait {
        let mut seen = vec![row.pid];
        let mut chain = Vec::new();
        let mut is_deadlock = false;
        let mut last = row;
        while let Some(next) = self.next(last) {
            if seen.contains(&next) {
                is_deadlock = true;
                break;
            }
            if chain.len() == MOST_OF_CHAIN {
                break;
            }
            seen.push(next);
            chain.push(self.party(next));
            match self.rows.get(&next) {
                Some(row) => last = row,
                None => break,
            }
        }
        LockWait {
            waiter,
            waited: age,
            chain,
            is_deadlock,
            others: row.blockers.len().saturating_sub(1),
        }
    }

    /// The process that this one waits for: one that waits for nobody, if there is one.
    fn next(&self, row: &BackendRow) -> Option<u32> {
        let waits = |pid: &u32| (self.rows.get(pid)).is_some_and(|row| !row.blockers.is_empty());
        let mut blockers = row.blockers.iter();
        let first = row.blockers.first();
        blockers.find(|pid| !waits(pid)).or(first).copied()
    }

    fn party(&self, pid: u32) -> LockParty {
        match (pid, self.rows.get(&pid), self.own.get(&pid)) {
            (0, ..) => LockParty::without_activity(LockPartyKind::Prepared),
            (_, Some(row), Some(connection)) => row.own(connection),
            (_, Some(row), None) => row.foreign(),
            (_, None, _) => LockParty::without_activity(LockPartyKind::Hidden),
        }
    }
}

#[cfg(test)]
mod tests;
