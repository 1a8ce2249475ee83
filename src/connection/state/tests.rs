//! Deadlines and limits of the state alone, without a socket and a protocol.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

use actix_vitals::memory::AnswerMemory;

use super::*;
use crate::connection::slots::ConnectionSlots;

const HEAD: Duration = Duration::from_secs(1);
const RESPONSE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(3);

const SMALL: (usize, usize) = (1, 50);
const LARGE: (usize, usize) = (1, 2000);

fn limits() -> LimitSettings {
    LimitSettings {
        head_timeout: HEAD,
        body_timeout: Duration::from_secs(9),
        response_timeout: RESPONSE,
        idle_timeout: IDLE,
        max_connections: 1,
        max_connections_per_address: 1,
        max_headers: 10,
        max_header_bytes: 1024,
        body_limit: 1024,
        json_depth: 1,
        answer_memory: 1024,
    }
}

fn client() -> Client {
    let slots = ConnectionSlots::new(1, 9, AnswerMemory::default());
    slots.take([192, 0, 2, 1].into()).unwrap().client()
}

fn http_1() -> ConnectionState {
    ConnectionState::new(limits(), false, Instant::now(), client(), Drain::default())
}

/// The seconds until the deadline of the peer, and the outcome after it.
fn waits(state: &ConnectionState) -> Option<(u64, ConnectionOutcome)> {
    let (deadline, outcome) = state.waiting()?;
    let left = deadline - Instant::now() + Duration::from_millis(500);
    Some((left.as_secs(), outcome))
}

/// Reads and serves a request without a body.
fn serve(state: &ConnectionState, bytes: &[u8]) {
    assert_eq!(state.read(bytes), Ok(bytes.len()));
    answer(state, BodyLength::Empty);
}

/// Begins and answers the request whose head was read.
fn answer(state: &ConnectionState, body: BodyLength) {
    state.body_ends(body);
    state.begin(|| SMALL).unwrap();
    state.end();
    state.settle().unwrap();
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_head_a_request_and_an_idle_connection_have_different_deadlines() {
    let state = http_1();
    assert_eq!(waits(&state), Some((1, ConnectionOutcome::HeadTimeout)));
    state.read(b"GET / HTTP/1.1\r\n").unwrap();
    state.settle().unwrap();
    assert_eq!(waits(&state), Some((1, ConnectionOutcome::HeadTimeout)));
    state.read(b"\r\n").unwrap();
    state.body_ends(BodyLength::Empty);
    state.begin(|| SMALL).unwrap();
    assert_eq!(waits(&state), None);
    state.end();
    state.settle().unwrap();
    assert_eq!(waits(&state), Some((3, ConnectionOutcome::Idle)));
    assert!(state.is_open());
    state.read(b"G").unwrap();
    state.settle().unwrap();
    assert_eq!(waits(&state), Some((1, ConnectionOutcome::HeadTimeout)));
}

#[test]
fn a_head_that_arrives_in_parts_leaves_no_unclaimed_bytes() {
    let state = http_1();
    for piece in ["GET / HTTP/1.1\r\nHost: x\r", "\n", "\r", "\n"] {
        state.read(piece.as_bytes()).unwrap();
    }
    state.begin(|| SMALL).unwrap();
    state.end();
    state.settle().unwrap();
    assert_eq!(waits(&state), Some((3, ConnectionOutcome::Idle)));
}

#[test]
fn a_partial_head_after_a_complete_one_has_the_deadline_of_a_head() {
    let state = http_1();
    assert_eq!(state.read(b"GET / HTTP/1.1\r\n\r\nGET /"), Ok(18));
    assert!(!state.is_open());
    answer(&state, BodyLength::Empty);
    assert!(state.is_open());
    assert_eq!(state.read(b"GET /"), Ok(5));
    state.settle().unwrap();
    assert_eq!(waits(&state), Some((1, ConnectionOutcome::HeadTimeout)));
}

#[test]
fn the_rest_of_a_body_is_not_taken_for_a_head() {
    let state = http_1();
    state.read(b"POST / HTTP/1.1\r\n\r\n").unwrap();
    state.body_ends(BodyLength::Sized(6000));
    state.begin(|| SMALL).unwrap();
    state.body_given_up();
    state.end();
    state.read(&[b'x'; 5000]).unwrap();
    assert_eq!(state.settle(), Ok(()));
    assert_eq!(waits(&state), Some((3, ConnectionOutcome::Idle)));
}

#[test]
fn a_blocked_socket_has_a_deadline_while_a_request_is_in_service() {
    let state = http_1();
    state.read(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    state.begin(|| SMALL).unwrap();
    state.blocked();
    assert_eq!(waits(&state), Some((2, ConnectionOutcome::ResponseTimeout)));
    state.wrote();
    assert_eq!(waits(&state), None);
}

#[test]
fn the_deadline_is_that_of_the_answer_that_stalled_first() {
    let state = ConnectionState::new(limits(), true, Instant::now(), client(), Drain::default());
    state.begin(|| SMALL).unwrap();
    state.begin(|| SMALL).unwrap();
    let first = state.stall();
    let second = state.stall();
    assert_ne!(first, second);
    let both = state.waiting().unwrap().0;
    state.resume(first);
    assert!(state.waiting().unwrap().0 >= both);
    state.resume(second);
    assert!(state.waiting().is_none());
    assert_eq!(state.stall(), first, "an index is used again");
}

#[test]
fn large_heads_are_rejected_and_small_ones_are_not_measured() {
    let measured = |state: &ConnectionState, bytes: &[u8]| {
        state.read(bytes).unwrap();
        state.body_ends(BodyLength::Empty);
        let begun = state.begin(|| LARGE);
        state.end();
        begun
    };
    assert_eq!(
        measured(&http_1(), b"GET /\r\n\r\n"),
        Ok(()),
        "it was measured"
    );
    let rejected = Err(RequestRejection::HeadersTooLarge);
    assert_eq!(measured(&http_1(), &[b'x'; 2000]), rejected);
    let state = http_1();
    serve(&state, b"GET / HTTP/1.1\r\n\r\n");
    assert!(state.is_open());
    assert_eq!(measured(&state, &[b'x'; 2000]), rejected);
    let many = http_1();
    many.read(&[b'x'; 200]).unwrap();
    assert_eq!(many.begin(|| (11, 200)), rejected);
}

#[test]
fn a_partial_head_is_rejected_once_it_is_too_large() {
    let state = http_1();
    state.read(&[b'x'; 1024]).unwrap();
    assert_eq!(state.settle(), Ok(()));
    state.read(b"x").unwrap();
    assert!(state.is_full());
    assert_eq!(state.settle(), Err(ConnectionOutcome::HeadersTooLarge));
}

#[test]
fn the_protocol_gets_the_next_request_once_the_answer_is_written() {
    let state = http_1();
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    let wakes = || woken.0.swap(0, Ordering::Relaxed);
    let reader = Arc::clone(&woken).into();
    let both = b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    assert_eq!(state.read(both), Ok(18));
    assert!(!state.is_open(), "the head is not parsed");
    state.await_next(&reader);
    assert_eq!(wakes(), 0);
    state.body_ends(BodyLength::Empty);
    state.begin(|| SMALL).unwrap();
    wakes();
    assert!(!state.is_open(), "the request is in service");
    state.await_next(&reader);
    state.blocked();
    assert_eq!(wakes(), 0);
    state.end();
    assert_eq!(wakes(), 1);
    assert!(!state.is_open(), "the answer is not written");
    state.await_next(&reader);
    assert_eq!(wakes(), 0);
    state.wrote();
    assert_eq!(wakes(), 1);
    assert!(state.is_open());
    assert_eq!(state.read(&both[18..]), Ok(18));
}

#[test]
fn a_dropped_body_ends_before_the_next_request_begins() {
    let state = http_1();
    state.read(b"POST / HTTP/1.1\r\n\r\n").unwrap();
    state.body_ends(BodyLength::Chunked);
    state.begin(|| SMALL).unwrap();
    state.body_given_up();
    state.end();
    assert_eq!(state.read(b"1\r\nx\r\n0\r\n\r\nGET /"), Ok(11));
    assert!(!state.is_open(), "the protocol has not seen its end");
    assert!(state.is_open());
}

#[test]
fn the_reader_continues_when_the_application_waits_for_a_body() {
    let state = http_1();
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    state.read(b"POST / HTTP/1.1\r\n\r\n").unwrap();
    state.body_ends(BodyLength::Unbounded);
    state.begin(|| SMALL).unwrap();
    state.read(&vec![b'x'; MAX_BYTES_AHEAD]).unwrap();
    assert!(state.is_full());
    state.park(&Arc::clone(&woken).into());
    state.body_awaited();
    assert!(!state.is_full());
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
}

#[test]
fn the_next_check_is_before_every_deadline() {
    let state = http_1();
    let now = Instant::now();
    assert!(state.check(now).unwrap() <= now + HEAD);
    let late = now + HEAD + Duration::from_millis(10);
    assert_eq!(state.check(late), Err(ConnectionOutcome::HeadTimeout));
    state.begin(|| SMALL).unwrap();
    assert!(state.check(late).unwrap() <= late + HEAD);
}

#[test]
fn a_connection_is_idle_once_its_last_answer_is_written() {
    let state = http_1();
    let accepted = state.idle_since().unwrap();
    state.begin(|| SMALL).unwrap();
    assert_eq!(state.idle_since(), None, "a request is in service");
    state.blocked();
    state.end();
    assert_eq!(state.idle_since(), None, "the answer is not written");
    state.wrote();
    assert!(state.idle_since().unwrap() >= accepted);
}
