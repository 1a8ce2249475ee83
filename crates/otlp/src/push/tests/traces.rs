//! Traces: each message is sent until it is taken, and none to a receiver that has no such path.

use std::collections::VecDeque;

use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::*;

/// Messages that are there from the start.
#[derive(Debug)]
struct Messages(VecDeque<&'static [u8]>);

impl Traces for Messages {
    fn next(&mut self, _: &[KeyValue], _: bool) -> Option<Vec<u8>> {
        self.0.front().map(|message| message.to_vec())
    }

    fn pass(&mut self) {
        self.0.pop_front();
    }
}

struct Service {
    families: PushFamilies,
    push: OtlpPush,
}

impl Service {
    /// Pushes two messages of traces, and no metrics.
    fn start(receiver: &Receiver, interval: Duration) -> Self {
        let mut settings = settings_for(&receiver.url()).interval(interval);
        settings.metrics = None;
        let mut builder = Registry::builder(clock);
        let families = PushFamilies::declare(&mut builder);
        let registry = builder.build().unwrap();
        let messages: [&[u8]; 2] = [b"first", b"second"];
        let source = TraceSource(Box::new(Messages(messages.into())));
        let traces = Some(source);
        let push = OtlpPush::start(&settings, &registry, &families, clock, None, traces).unwrap();
        Self { families, push }
    }

    fn pushes(&self, outcome: Outcome) -> u64 {
        let pushes = self.families.pushes.series(["traces", outcome.as_str()]);
        pushes.value()
    }
}

/// A push has this time on a busy machine, too.
const INTERVAL: Duration = Duration::from_millis(800);

#[test]
fn each_message_is_sent_once_to_the_path_of_traces() {
    let receiver = Receiver::start(&[OK]);
    let service = Service::start(&receiver, INTERVAL);
    let requests = receiver.wait_for(2);
    assert_eq!(requests[0].line, "POST /v1/traces HTTP/1.1");
    assert_eq!(requests[0].body, b"first");
    assert_eq!(requests[1].body, b"second");
    assert!(service.push.finish(BOUND), "nothing is left to push");
    assert_eq!(receiver.requests().len(), 2);
    assert_eq!(service.pushes(Outcome::Success), 1, "one push for both");
}

#[test]
fn a_message_that_was_not_delivered_is_sent_with_the_next_push() {
    let receiver = Receiver::start(&[OK, Answer::Status(503, "retry-after: 1\r\n"), OK]);
    let service = Service::start(&receiver, INTERVAL);
    let requests = receiver.wait_for(3);
    let bodies: Vec<_> = requests.iter().map(|request| &request.body[..]).collect();
    assert_eq!(bodies, [&b"first"[..], b"second", b"second"]);
    assert!(service.push.finish(BOUND));
    assert_eq!(service.pushes(Outcome::Failed), 1);
    assert_eq!(service.pushes(Outcome::Success), 1);
}

#[test]
fn a_message_that_is_rejected_is_not_sent_again() {
    let receiver = Receiver::start(&[Answer::Status(400, ""), OK]);
    let service = Service::start(&receiver, NEVER);
    receiver.wait_for(2);
    assert!(service.push.finish(BOUND), "nothing is left to push");
    assert_eq!(receiver.requests().len(), 2);
    assert_eq!(service.pushes(Outcome::Rejected), 1);
}

#[test]
fn a_receiver_without_the_path_of_traces_is_asked_once() {
    let receiver = Receiver::start(&[Answer::Status(404, "")]);
    let service = Service::start(&receiver, Duration::from_millis(100));
    receiver.wait_for(1);
    assert!(service.push.finish(BOUND), "traces are not pushed any more");
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(service.pushes(Outcome::Rejected), 1);
}

#[test]
fn a_receiver_that_has_taken_traces_gets_them_when_the_path_is_back() {
    let receiver = Receiver::start(&[OK, Answer::Status(404, ""), OK]);
    let service = Service::start(&receiver, INTERVAL);
    let requests = receiver.wait_for(3);
    let bodies: Vec<_> = requests.iter().map(|request| &request.body[..]).collect();
    assert_eq!(bodies, [&b"first"[..], b"second", b"second"]);
    assert!(service.push.finish(BOUND));
    assert_eq!(service.pushes(Outcome::Rejected), 1);
    assert_eq!(service.pushes(Outcome::Success), 1);
}
