//! A receiver for one test: it records requests and answers them as the test says.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    },
    metrics::v1::{metric::Data, number_data_point},
};
use prost::Message;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How long a test waits for what must happen.
pub(super) const BOUND: Duration = Duration::from_secs(20);

/// What the receiver does with one request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Answers with this status, and with these header lines.
    Status(u16, &'static str),
    /// Takes all but so many data points.
    Partial(i64),
    /// Never answers.
    Silence,
    /// Closes the connection without an answer.
    Hangup,
}

pub(super) const OK: Answer = Answer::Status(200, "");

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) line: String,
    /// By names in lower case.
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
    pub(super) at: Instant,
}

impl Received {
    /// The message of a request that is not compressed.
    pub(super) fn message(&self) -> ExportMetricsServiceRequest {
        ExportMetricsServiceRequest::decode(&self.body[..]).unwrap()
    }

    /// The sum of the series of a counter of whole numbers; `None` where the request does not contain it.
    pub(super) fn counter(&self, name: &str) -> Option<i64> {
        let message = self.message();
        let scopes = &message.resource_metrics[0].scope_metrics;
        let metric = scopes[0]
            .metrics
            .iter()
            .find(|metric| metric.name == name)?;
        let Some(Data::Sum(sum)) = &metric.data else {
            return None;
        };
        let values = sum.data_points.iter().map(|point| match point.value {
            Some(number_data_point::Value::AsInt(value)) => value,
            other => panic!("{other:?}"),
        });
        Some(values.sum())
    }
}

#[derive(Debug, Default)]
struct Log {
    requests: Mutex<Vec<Received>>,
    changed: Condvar,
}

/// A running receiver. Its threads end with the test's process.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) authority: String,
    log: Arc<Log>,
}

impl Receiver {
    /// Starts a receiver that gives these answers in order, and the last one from then on.
    pub(super) fn start(answers: &[Answer]) -> Self {
        Self::start_with(answers, None)
    }

    /// The same over TLS.
    pub(super) fn start_with(answers: &[Answer], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Log::default());
        let (answers, connections) = (answers.to_vec(), Arc::clone(&log));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (answers, log, tls) = (answers.clone(), Arc::clone(&connections), tls.clone());
                thread::spawn(move || {
                    let connection = connection.unwrap();
                    // A client that leaves, or whose handshake fails, ends its connection.
                    let _ = match tls {
                        None => serve(connection, &answers, &log),
                        Some(tls) => serve_tls(connection, tls, &answers, &log),
                    };
                });
            }
        });
        Self { authority, log }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.authority)
    }

    pub(super) fn requests(&self) -> Vec<Received> {
        self.log.requests.lock().unwrap().clone()
    }

    /// Waits for so many requests, and returns all that came.
    pub(super) fn wait_for(&self, count: usize) -> Vec<Received> {
        let requests = self.log.requests.lock().unwrap();
        let (requests, waited) = (self.log.changed)
            .wait_timeout_while(requests, BOUND, |requests| requests.len() < count)
            .unwrap();
        assert!(
            !waited.timed_out(),
            "{} of {count} requests came",
            requests.len()
        );
        requests.clone()
    }
}

fn serve_tls(
    connection: TcpStream,
    tls: Arc<ServerConfig>,
    answers: &[Answer],
    log: &Log,
) -> std::io::Result<()> {
    let session = ServerConnection::new(tls).unwrap();
    serve(StreamOwned::new(session, connection), answers, log)
}

fn serve(connection: impl Read + Write, answers: &[Answer], log: &Log) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some(request) = read_request(&mut connection)? {
        let number = {
            let mut requests = log.requests.lock().unwrap();
            requests.push(request);
            requests.len()
        };
        log.changed.notify_all();
        let answer = answers.get(number - 1).or(answers.last()).unwrap();
        let (status, head, body) = match answer {
            Answer::Status(status, head) => (*status, *head, Vec::new()),
            Answer::Partial(rejected) => (200, "", partial(*rejected)),
            Answer::Silence => {
                thread::sleep(BOUND);
                return Ok(());
            }
            Answer::Hangup => return Ok(()),
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{head}\r\n");
        let stream = connection.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)?;
        stream.flush()?;
    }
    Ok(())
}

fn partial(rejected: i64) -> Vec<u8> {
    let answer = ExportMetricsServiceResponse {
        partial_success: Some(ExportMetricsPartialSuccess {
            rejected_data_points: rejected,
            error_message: "hunter2 was rejected".to_owned(),
        }),
    };
    answer.encode_to_vec()
}

fn read_request(connection: &mut impl BufRead) -> std::io::Result<Option<Received>> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        connection.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok(Some(Received {
        line: line.trim_end().to_owned(),
        headers,
        body,
        at: Instant::now(),
    }))
}
