//! A future that is dropped while it awaits an answer of the server leaves that answer to no later query. The futures are
//! those of health checks, of calls for a connection, and of queries on a connection of the inner pool.

use std::sync::Arc;

use actix_web::rt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::app::{self, TestApp};
use crate::engine::Engine;
use crate::is_at_rest;
use crate::pools::TestPool;

/// More answers than any of the futures awaits.
const MANY: usize = 100;

/// Whether the proxy passes answers on.
#[derive(Default)]
struct Gate {
    /// How many answers still pass. `None` if all do.
    left: Option<usize>,
    /// An answer waits.
    has_waiting: bool,
}

/// A proxy before a server, which can hold back what the server answers.
struct Proxy {
    url: String,
    gate: Arc<watch::Sender<Gate>>,
}

impl Proxy {
    /// A proxy before the server of this URL.
    async fn before(url: &str) -> Self {
        let (user, rest) = url.rsplit_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(watch::Sender::default());
        let (server, passed) = (server.to_owned(), Arc::clone(&gate));
        rt::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&server).await.unwrap();
                rt::spawn(pass_on(client, server, Arc::clone(&passed)));
            }
        });
        // `mysql_async` would go on through the server's socket, past the proxy.
        let options = if user.starts_with("mysql:") {
            "?prefer_socket=false"
        } else {
            ""
        };
        Self {
            url: format!("{user}@{address}/{database}{options}"),
            gate,
        }
    }

    /// Lets this many answers pass, and holds back the next ones.
    fn hold_after(&self, answers: usize) {
        self.gate.send_replace(Gate {
            left: Some(answers),
            has_waiting: false,
        });
    }

    /// Waits until an answer is held back.
    async fn holds(&self) {
        let mut gate = self.gate.subscribe();
        gate.wait_for(|gate| gate.has_waiting).await.unwrap();
    }

    fn release(&self) {
        self.gate.send_replace(Gate::default());
    }
}

async fn pass_on(client: TcpStream, server: TcpStream, gate: Arc<watch::Sender<Gate>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    rt::spawn(async move {
        let _ended = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    let mut changes = gate.subscribe();
    let mut answer = [0; 4096];
    while let Ok(length @ 1..) = from_server.read(&mut answer).await {
        gate.send_if_modified(|gate| {
            gate.has_waiting = gate.left == Some(0);
            gate.has_waiting
        });
        let is_open = changes.wait_for(|gate| gate.left != Some(0)).await.is_ok();
        assert!(is_open, "the gate is kept");
        gate.send_modify(|gate| {
            gate.left = gate.left.map(|left| left.saturating_sub(1));
        });
        if to_client.write_all(&answer[..length]).await.is_err() {
            return;
        }
    }
}

/// Runs `attempt` again and again. The first time it is dropped while it awaits its first answer, then while it awaits its
/// second one, and so on. After each time, the next caller of the pool reads the answers of its own queries.
async fn nothing_is_left_by<P: TestPool>(attempt: impl AsyncFn(&TestApp<P>)) {
    let Some((url, _database)) = P::Connection::database() else {
        return;
    };
    let proxy = Proxy::before(&url).await;
    let app = app::start::<P>(&proxy.url, 1).await;
    for answers in 0..MANY {
        proxy.hold_after(answers);
        let ended = tokio::select! {
            () = attempt(&app) => true,
            () = proxy.holds() => false,
        };
        proxy.release();
        let mut connection = app.pool.get().await.unwrap();
        for (id, name) in [(1, "one"), (2, "two"), (1, "one")] {
            let found = connection.name_of(id).await;
            assert_eq!(found, Ok(Some(name.to_owned())), "{answers} answers");
        }
        drop(connection);
        is_at_rest(&app).await;
        if ended {
            assert!(answers > 0, "nothing was dropped");
            return;
        }
    }
    panic!("it awaits more than {MANY} answers");
}

pub(crate) async fn a_dropped_health_check_leaves_no_answer_behind<P: TestPool>() {
    nothing_is_left_by::<P>(async |app| assert_eq!(app.get("/readyz").await, 200)).await;
}

pub(crate) async fn a_caller_that_leaves_during_the_check_leaves_no_answer_behind<P: TestPool>() {
    nothing_is_left_by::<P>(async |app| drop(app.pool.get().await.unwrap())).await;
}

pub(crate) async fn a_query_dropped_beside_the_pool_leaves_no_answer_behind<P: TestPool>() {
    nothing_is_left_by::<P>(async |app| {
        let mut connection = app.pool.get_native().await;
        let name = connection.name_of(2).await.unwrap();
        assert_eq!(name.as_deref(), Some("two"));
    })
    .await;
}
