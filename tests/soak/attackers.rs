//! The attackers of the soak test. Each has its own address, and repeats one attack.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use Listener::{Api, Operators};
use Manner::{Hold, Pour, Reset};

/// How long connections are held, and the pause after an attack that sends and reads.
const HOLD: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(250);

/// The longest time of an attack that sends and reads.
const POUR: Duration = Duration::from_secs(2);

/// The base64 of `alice:`. Each four further characters are three bytes of the password.
const ALICE: &str = "Basic YWxpY2U6";

/// The credentials of `alice`, whose password is `secret`.
pub(crate) const AUTHORIZATION: &str = "Authorization: Basic YWxpY2U6c2VjcmV0";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `SETTINGS_INITIAL_WINDOW_SIZE` and `SETTINGS_HEADER_TABLE_SIZE`, both 0.
const NO_WINDOW: &[u8] = &[0, 4, 0, 0, 0, 0];
const NO_TABLE: &[u8] = &[0, 1, 0, 0, 0, 0];

const LIST: &str = "/data?limit=1000";
const POST: &str = "POST /data HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";

/// The listener that is attacked.
#[derive(Clone, Copy)]
enum Listener {
    Api,
    Operators,
}

/// How a connection is used.
#[derive(Clone, Copy)]
enum Manner {
    /// Sends all bytes, reads nothing, and waits.
    Hold,
    /// Sends all bytes and reads all answers, until the server ends the connection.
    Pour,
    /// Sends all bytes, and resets the connection.
    Reset,
}

struct Attack {
    listener: Listener,
    manner: Manner,
    connections: usize,
    bytes: Vec<u8>,
}

/// All attackers.
pub(crate) struct Attackers {
    leaving: Arc<AtomicBool>,
    members: Vec<JoinHandle<u64>>,
}

impl Attackers {
    /// Starts all attacks at once, on the public listener and on the ops listener.
    pub(crate) fn start(api: &str, operators: &str) -> Self {
        let leaving = Arc::new(AtomicBool::new(false));
        let members = (1..).zip(attacks()).map(|(address, attack)| {
            let target = match attack.listener {
                Listener::Api => api,
                Listener::Operators => operators,
            };
            let target = target.parse().expect("an address");
            tokio::spawn(attack.go_on(target, address, Arc::clone(&leaving)))
        });
        Self {
            members: members.collect(),
            leaving,
        }
    }

    /// Ends all attacks, and returns the number of their connections.
    pub(crate) async fn leave(self) -> u64 {
        self.leaving.store(true, Ordering::Relaxed);
        let mut connections = 0;
        for member in self.members {
            connections += member.await.expect("an attacker that does not panic");
        }
        connections
    }
}

impl Attack {
    async fn go_on(self, target: SocketAddr, address: u8, leaving: Arc<AtomicBool>) -> u64 {
        let mut connections = 0;
        while !leaving.load(Ordering::Relaxed) {
            let streams = join_all((0..self.connections).map(|_| self.open(target, address)));
            let streams: Vec<TcpStream> = streams.await.into_iter().flatten().collect();
            connections += streams.len() as u64;
            if matches!(self.manner, Manner::Hold) {
                sleep(HOLD).await;
            }
            drop(streams);
            sleep(PAUSE).await;
        }
        connections
    }

    /// Opens a connection, and sends the bytes. The server may end it at any time.
    async fn open(&self, target: SocketAddr, address: u8) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, address), 0)))?;
        let mut stream = socket.connect(target).await?;
        match self.manner {
            Manner::Hold => {
                let _taken = timeout(HOLD, stream.write_all(&self.bytes)).await;
            }
            Manner::Pour => {
                let (mut reading, mut writing) = stream.split();
                let mut answers = tokio::io::sink();
                let both = async {
                    tokio::join!(
                        writing.write_all(&self.bytes),
                        tokio::io::copy(&mut reading, &mut answers),
                    )
                };
                let _ended = timeout(POUR, both).await;
            }
            Manner::Reset => {
                stream.write_all(&self.bytes).await?;
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            }
        }
        Ok(stream)
    }
}

fn http_1(head: &str) -> Vec<u8> {
    format!("{head}\r\nHost: a\r\n{AUTHORIZATION}\r\n\r\n").into_bytes()
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = u32::try_from(content.len()).expect("a frame").to_be_bytes();
    let head = [high, middle, low, kind, flags];
    [&head, stream.to_be_bytes().as_slice(), content].concat()
}

/// The fields of a head, without indexing.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).expect("a short text");
        [&[length], text.as_bytes()].concat()
    };
    let field = |(name, value): &(&str, &str)| [vec![0], text(name), text(value)].concat();
    fields.iter().flat_map(field).collect()
}

fn head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a"),
    ];
    fields(&[&pseudo, more].concat())
}

/// An HTTP/2 connection with these settings, and these frames for each stream.
fn http_2(settings: &[u8], streams: u32, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let opening = [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat();
    let streams = (0..streams).flat_map(|number| frames(2 * number + 1));
    opening.into_iter().chain(streams).collect()
}

/// The frames of a request without a body.
fn request(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let head = head("GET", path, more);
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head)
}

/// The frames of a request whose body begins with these bytes and does not end.
fn unfinished(stream: u32, body: &[u8]) -> Vec<u8> {
    let head = head("POST", "/data", &[("content-type", "application/json")]);
    let parts = body.chunks(16_000);
    let parts = parts.flat_map(|part| frame(DATA, 0, stream, part));
    let head = frame(HEADERS, END_HEADERS, stream, &head);
    head.into_iter().chain(parts).collect()
}

/// A wrong password.
fn guess(number: u32) -> String {
    format!("{ALICE}{number:04}")
}

fn attacks() -> Vec<Attack> {
    let all = [askers(), idlers(), framers(), repeaters(), talkers()];
    all.into_iter().flatten().collect()
}

fn attack(listener: Listener, manner: Manner, connections: usize, bytes: Vec<u8>) -> Attack {
    Attack {
        listener,
        manner,
        connections,
        bytes,
    }
}

/// Attacks that request much and read nothing.
fn askers() -> Vec<Attack> {
    let many_names: Vec<String> = (0..200).map(|number| format!("name[]=n{number}")).collect();
    let many_names = many_names.join("&");
    vec![
        attack(Api, Hold, 60, http_1(&format!("GET {LIST} HTTP/1.1"))),
        attack(
            Api,
            Hold,
            2,
            http_2(NO_WINDOW, 52, |stream| request(stream, LIST, &[])),
        ),
        attack(Operators, Hold, 40, http_1("GET /metrics HTTP/1.1")),
        attack(
            Operators,
            Hold,
            40,
            http_1("GET /dashboard/history HTTP/1.1"),
        ),
        attack(
            Operators,
            Hold,
            40,
            http_1("GET /ops/statements?limit=1000 HTTP/1.1"),
        ),
        attack(
            Operators,
            Hold,
            40,
            http_1("GET /docs/swagger-ui-bundle.js HTTP/1.1"),
        ),
        attack(
            Operators,
            Hold,
            120,
            http_1("GET /dashboard/stream HTTP/1.1"),
        ),
        attack(
            Operators,
            Hold,
            10,
            http_1(&format!("GET /metrics?{many_names} HTTP/1.1")),
        ),
    ]
}

/// Attacks that begin a request and do not continue.
fn idlers() -> Vec<Attack> {
    vec![
        attack(Api, Hold, 100, Vec::new()),
        attack(Api, Hold, 100, b"GET / HTTP/1.1\r\nHos".to_vec()),
        attack(
            Api,
            Hold,
            100,
            format!("{POST}Content-Length: 60000\r\n\r\n{}", " ".repeat(59_000)).into(),
        ),
        attack(
            Api,
            Hold,
            4,
            http_2(&[], 200, |stream| unfinished(stream, &[b' '; 60_000])),
        ),
    ]
}

/// Attacks with heads and bodies in many frames.
fn framers() -> Vec<Attack> {
    vec![
        attack(
            Api,
            Pour,
            2,
            http_2(&[], 1, |stream| {
                let first = frame(HEADERS, 0, stream, &head("GET", "/", &[]));
                let rest = (0..12).flat_map(|number| {
                    let names = (0..1_500)
                        .flat_map(|name| fields(&[(&format!("{number:02x}{name:04x}"), "")]));
                    frame(CONTINUATION, 0, stream, &names.collect::<Vec<u8>>())
                });
                first.into_iter().chain(rest).collect()
            }),
        ),
        attack(
            Api,
            Pour,
            2,
            http_2(&[], 1, |stream| {
                let head = frame(HEADERS, 0, stream, &head("GET", "/", &[]));
                [head, frame(CONTINUATION, 0, stream, &[]).repeat(2_000)].concat()
            }),
        ),
        attack(
            Api,
            Pour,
            2,
            http_2(&[], 1, |stream| {
                [
                    unfinished(stream, &[]),
                    frame(DATA, 0, stream, &[]).repeat(20_000),
                ]
                .concat()
            }),
        ),
    ]
}

/// Attacks with many small frames over HTTP/2.
fn repeaters() -> Vec<Attack> {
    vec![
        attack(
            Api,
            Pour,
            1,
            http_2(&[], 1_000, |stream| {
                [
                    request(stream, "/data", &[]),
                    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
                ]
                .concat()
            }),
        ),
        attack(
            Api,
            Pour,
            1,
            http_2(&[], 1, |_| frame(PING, 0, 0, &[0; 8]).repeat(5_000)),
        ),
        attack(
            Api,
            Pour,
            1,
            http_2(&[], 1, |_| frame(SETTINGS, 0, 0, NO_TABLE).repeat(2_000)),
        ),
        // A header of 3,900 bytes in the HPACK table, and heads that refer to it 3,000 times.
        attack(
            Api,
            Pour,
            1,
            http_2(&[], 100, |stream| match stream {
                1 => {
                    let large = [&b"\x40\x01a\x7f\xbd\x1d"[..], &[b'x'; 3_900]].concat();
                    frame(
                        HEADERS,
                        END_STREAM | END_HEADERS,
                        1,
                        &[head("GET", "/", &[]), large].concat(),
                    )
                }
                _ => frame(
                    HEADERS,
                    END_STREAM | END_HEADERS,
                    stream,
                    &[head("GET", "/", &[]), vec![0xbe; 3_000]].concat(),
                ),
            }),
        ),
        attack(
            Operators,
            Pour,
            2,
            http_2(&[], 100, |stream| {
                request(stream, "/metrics", &[("authorization", &guess(stream))])
            }),
        ),
        attack(
            Operators,
            Reset,
            2,
            http_2(&[], 100, |stream| {
                request(
                    stream,
                    "/metrics",
                    &[("authorization", &guess(stream + 1000))],
                )
            }),
        ),
    ]
}

/// Attacks with many bytes over HTTP/1.
fn talkers() -> Vec<Attack> {
    let mix = format!(
        "HEAD /data HTTP/1.1\r\nHost: a\r\n\r\nGET {LIST} HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
    );
    vec![
        attack(Api, Pour, 2, mix.repeat(50).into()),
        attack(
            Api,
            Pour,
            2,
            b"HEAD /data HTTP/1.1\r\nHost: a\r\n\r\n".repeat(300),
        ),
        attack(Api, Reset, 20, http_1(&format!("GET {LIST} HTTP/1.1"))),
        attack(
            Api,
            Pour,
            1,
            format!(
                "{POST}Transfer-Encoding: chunked\r\n\r\n1;{}",
                "a".repeat(1_000_000)
            )
            .into(),
        ),
        attack(
            Api,
            Pour,
            1,
            format!("{POST}Content-Length: 60000\r\n\r\n{}", "[".repeat(60_000)).into(),
        ),
        attack(
            Api,
            Pour,
            1,
            format!(
                "GET /data?{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                "limit=1&".repeat(1_900)
            )
            .into(),
        ),
        attack(
            Operators,
            Pour,
            1,
            http_1(&format!(
                "GET /metrics HTTP/1.1\r\nConnection: close\r\nAccept-Encoding: {}",
                "gzip;q=0.5,".repeat(1_200)
            )),
        ),
    ]
}
