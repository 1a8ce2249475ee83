use super::*;
use crate::{
    context::{Owner, OwnerKind},
    database::HeldConnection,
};

/// A process that has been there for a minute, and waits for these.
fn row(pid: u32, blockers: &[u32]) -> BackendRow {
    let state = if blockers.is_empty() {
        "idle in transaction"
    } else {
        "active"
    };
    BackendRow {
        pid,
        blockers: blockers.to_vec(),
        is_there: true,
        is_visible: true,
        name: Some("psql".to_owned()),
        kind: Some("client backend".to_owned()),
        state: Some(state.to_owned()),
        state_age: Duration::from_secs(5),
        age: Some(Duration::from_secs(60)),
        server: "now".into(),
    }
}

/// A connection that was opened a minute ago, whose holder is named after its process.
fn own(backend: u32, activity: HoldActivity) -> OwnConnection {
    let owner = Owner {
        kind: OwnerKind::Request,
        method: Some("GET"),
        name: Some(format!("/{backend}").into()),
        trace_id: None,
    };
    OwnConnection {
        backend,
        age: Duration::from_secs(60),
        has_written: false,
        hold: Some(HeldConnection {
            owner,
            held: Duration::from_secs(9),
            activity,
            activity_age: Duration::from_secs(u64::from(backend)),
            statement: None,
            taken_at: None,
        }),
    }
}

fn querying(backends: impl IntoIterator<Item = u32>) -> Vec<OwnConnection> {
    let backends = backends.into_iter();
    backends
        .map(|backend| own(backend, HoldActivity::Query))
        .collect()
}

fn sentences(joined: &Joined) -> Vec<String> {
    joined.waits.iter().map(LockWait::sentence).collect()
}

#[test]
fn waits_are_joined_with_the_holders_of_this_process() {
    let rows = [
        row(3, &[2, 1]),
        row(2, &[1]),
        row(1, &[]),
        row(9, &[8]),
        row(8, &[]),
    ];
    let mut connections = querying([2, 3]);
    connections.push(own(1, HoldActivity::Idle));
    let joined = join(&rows, &connections);
    assert!(!joined.has_pooler && !joined.has_contradiction);
    assert_eq!(
        sentences(&joined),
        [
            "GET /3 waits for a lock held by GET /1, idle in transaction for 5.0 s",
            "GET /2 waits for a lock held by GET /1, idle in transaction for 5.0 s",
        ],
        "the longest first, not those of others"
    );
    assert_eq!(joined.waits[0].others, 1);
}

#[test]
fn a_chain_leads_to_its_end_also_through_other_programs() {
    let rows = [row(1, &[2]), row(2, &[3]), row(3, &[4]), row(4, &[])];
    let joined = join(&rows, &querying([1, 3]));
    assert_eq!(
        sentences(&joined),
        [
            "GET /3 waits for a lock held by the program \"psql\", idle in transaction for 5.0 s",
            "GET /1 waits for a lock held by the program \"psql\", which waits for GET /3, which waits for the \
             program \"psql\", idle in transaction for 5.0 s",
        ]
    );
}

#[test]
fn a_deadlock_ends_and_a_long_chain_too() {
    let joined = join(&[row(1, &[2]), row(2, &[1])], &querying([1, 2]));
    let mut waits = joined.waits.iter();
    assert!(waits.all(|wait| wait.is_deadlock && wait.chain.len() == 1));
    let long: Vec<_> = (1..100).map(|pid| row(pid, &[pid + 1])).collect();
    let wait = &join(&long, &querying([1])).waits[0];
    assert_eq!((wait.chain.len(), wait.is_deadlock), (MOST_OF_CHAIN, false));
}

#[test]
fn blockers_are_named_as_what_they_are() {
    let restricted = BackendRow {
        state: None,
        kind: None,
        ..row(2, &[])
    };
    let unnamed = BackendRow {
        name: None,
        ..row(2, &[])
    };
    let autovacuum = BackendRow {
        kind: Some("autovacuum worker".to_owned()),
        name: None,
        state: Some("active".to_owned()),
        ..row(2, &[])
    };
    let gone = BackendRow {
        is_there: false,
        is_visible: false,
        state: None,
        ..row(2, &[])
    };
    for (blocker, expected) in [
        (
            row(2, &[]),
            "the program \"psql\", idle in transaction for 5.0 s",
        ),
        (
            restricted,
            "the program \"psql\", whose activity is not visible to this role",
        ),
        (
            unnamed,
            "a program without a name, idle in transaction for 5.0 s",
        ),
        (
            autovacuum,
            "the database's own autovacuum worker, in a query for 5.0 s",
        ),
        (gone, "a program that is not visible to this role"),
        (row(0, &[]), "a prepared transaction"),
    ] {
        let joined = join(&[row(1, &[blocker.pid]), blocker], &querying([1]));
        let expected = format!("GET /1 waits for a lock held by {expected}");
        assert_eq!(sentences(&joined), [expected]);
    }
}

#[test]
fn a_connection_that_went_back_to_its_pool_in_a_transaction_is_named() {
    let mut connections = querying([1, 2]);
    connections[1].hold = None;
    let joined = join(&[row(1, &[2]), row(2, &[])], &connections);
    assert_eq!(
        sentences(&joined),
        [
            "GET /1 waits for a lock held by a connection that is back in its pool, idle in transaction for 5.0 s"
        ]
    );
    assert!(!joined.has_pooler && !joined.has_contradiction);
}

#[test]
fn a_pooler_is_noticed() {
    let aged = |seconds| BackendRow {
        age: Some(Duration::from_secs(seconds)),
        ..row(1, &[])
    };
    let has_pooler = |row, connections: &[_]| join(&[row], connections).has_pooler;
    assert!(
        has_pooler(aged(62), &querying([1])),
        "older than its connection"
    );
    assert!(!has_pooler(aged(61), &querying([1])), "about as old");
    assert!(
        has_pooler(row(1, &[]), &querying([1, 1])),
        "two connections"
    );
    let mut dead = querying([1, 1]);
    dead[0].age = Duration::from_secs(3600);
    assert!(
        !has_pooler(row(1, &[]), &dead),
        "one is of a former life of the server"
    );
    let idle = [own(1, HoldActivity::IdleInTransaction)];
    assert!(join(&[row(1, &[2]), row(2, &[])], &idle).has_contradiction);
    let new = BackendRow {
        state_age: Duration::ZERO,
        ..row(1, &[2])
    };
    assert!(!join(&[new, row(2, &[])], &idle).has_contradiction);
}

#[test]
fn an_answer_is_read_as_text() {
    let text = |columns: [&str; 9]| -> TextRow {
        let column = |text: &str| (text != "NULL").then(|| text.to_owned());
        columns.into_iter().map(column).collect()
    };
    let full = [
        "7",
        "8,0",
        "true",
        " ps\tql ",
        "client backend",
        "active",
        "12",
        "-1",
        "now",
    ];
    let bare = [
        "8", "NULL", "false", "", "NULL", "NULL", "NULL", "NULL", "now",
    ];
    let rows = read(&[text(full), text(bare)]).unwrap();
    let [full, bare] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    assert_eq!((full.pid, full.blockers.as_slice()), (7, [8, 0].as_slice()));
    assert_eq!(full.name.as_deref(), Some("psql"));
    assert_eq!(full.activity(), Some(HoldActivity::Query));
    let ages = (full.state_age, full.age);
    assert_eq!(ages, (Duration::from_millis(12), Some(Duration::ZERO)));
    assert_eq!((&bare.name, bare.activity(), bare.age), (&None, None, None));
    assert!(full.is_visible && !bare.is_there);
    let long = "x".repeat(200);
    assert_eq!(clean(&long).unwrap().len(), LONGEST_NAME);
    assert_eq!(read(&[vec![None]]), None);
}
