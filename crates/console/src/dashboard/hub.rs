//! The hub is the state that the sampler's thread writes and all open pages read: the ring of ticks, and the newest ticks as
//! encoded events. `stream` serves them.

use std::{
    collections::VecDeque,
    iter,
    sync::{Mutex, MutexGuard, PoisonError},
};

use actix_web::web::Bytes;
use serde::Serialize;
use tokio::sync::watch;

use super::{
    details::DetailRows,
    history::HistoryCache,
    ring::{HOUR, MAX_BYTES, OVERHEAD, PackedTick, Ring, merge},
    tick::Tick,
};

/// How many ticks are kept as events, for streams that fall behind or resume.
const RECENT: usize = 120;

/// How long ticks are still encoded after the last stream ended or the last history was read, in seconds: a stream that
/// resumes later would have missed too much anyhow.
const WATCHED: u64 = RECENT as u64;

/// How long ticks are encoded after the start, in seconds: the pages of the run before come back within a second or two.
const WATCHED_AT_START: u64 = 10;

/// The largest size of these events. A busy second with a thousand routes takes half a megabyte.
const RECENT_BYTES: usize = 2_000_000;

/// If the history is too large, ticks are merged to the first of these numbers of seconds that makes it fit.
const COARSER_STEPS: [u64; 4] = [15, 60, 300, HOUR];

/// The field that makes a page wait one second before it connects again.
const RETRY: &[u8] = b"retry: 1000\n";

/// The service and the process that serve the page.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ServiceIdentity {
    /// Unique for each run of a server.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) documentation: Option<String>,
    pub(super) host: String,
    pub(super) pid: u32,
    pub(super) cores: usize,
    /// Seconds since the Unix epoch.
    pub(super) started: f64,
    /// The paths of the ops endpoints that exist besides the page, which requests some of them.
    pub(super) ops: Vec<&'static str>,
}

/// The position of a stream: what it has sent.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The time of the last tick it sent.
    time: u64,
    /// How many routes it sent; `None` before the first event.
    routes: Option<usize>,
    /// The version of the details it sent.
    details: u64,
}

impl Cursor {
    /// A stream that continues after the tick `since`, or after the newest tick.
    pub(super) fn new(since: Option<u64>) -> Self {
        Self {
            time: since.unwrap_or(u64::MAX),
            routes: None,
            details: 0,
        }
    }
}

/// A tick as it is sent: encoded once, shared by all streams.
#[derive(Debug)]
struct Event {
    time: u64,
    text: Bytes,
}

impl Event {
    fn bytes(&self) -> usize {
        self.text.len() + OVERHEAD
    }
}

/// The last ticks as events: at most [`RECENT`] in [`RECENT_BYTES`]. The newest is kept even if it is larger.
#[derive(Debug)]
struct Recent {
    events: VecDeque<Event>,
    bytes: usize,
}

impl Recent {
    fn new() -> Self {
        let events = VecDeque::with_capacity(RECENT + 1);
        Self {
            bytes: events.capacity() * size_of::<Event>(),
            events,
        }
    }

    fn clear(&mut self) {
        if !self.events.is_empty() {
            *self = Self::new();
        }
    }

    fn push(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.events.len() > RECENT || (self.bytes > RECENT_BYTES && self.events.len() > 1) {
            let oldest = self.events.pop_front();
            self.bytes -= oldest.as_ref().map_or(0, Event::bytes);
        }
    }
}

#[derive(Debug)]
struct HubState {
    ring: Ring,
    routes: Vec<String>,
    /// The size of the names of the routes.
    routes_bytes: usize,
    /// Empty if no page was open of late.
    recent: Recent,
    /// The time of the newest tick; `None` before the first.
    last: Option<u64>,
    /// The last second in which ticks are encoded, as long as no page is open.
    encode_until: u64,
    /// The details as JSON. `details_event` is the event with them.
    details: String,
    details_event: Bytes,
    /// Increases with each change of the details.
    details_version: u64,
    /// How many seconds the wall clock is ahead of the ticks' times.
    clock: i64,
}

impl HubState {
    /// Limits the ring to the part of [`MAX_BYTES`] that nothing else uses.
    fn fit_ring(&mut self) {
        let details = self.details.capacity() + self.details_event.len() + 2 * OVERHEAD;
        let taken = self.recent.bytes + self.routes_bytes + details;
        self.ring.limit(MAX_BYTES.saturating_sub(taken));
    }
}

/// The state that the sampler and all open pages share.
#[derive(Debug)]
pub(super) struct Hub {
    identity: ServiceIdentity,
    state: Mutex<HubState>,
    /// The histories that were requested since the last tick.
    pub(super) histories: HistoryCache,
    /// The time of the last tick; `None` after the last one.
    news: watch::Sender<Option<u64>>,
}

/// The first event of a stream.
#[derive(Serialize)]
struct Hello<'a> {
    instance: &'a ServiceIdentity,
    routes: &'a [String],
    /// Seconds that the page adds to the times that it shows.
    #[serde(skip_serializing_if = "is_zero")]
    clock: i64,
}

/// The event of a new tick.
#[derive(Serialize)]
struct NewTick<'a> {
    #[serde(flatten)]
    tick: &'a Tick,
    /// As in [`Hello`].
    #[serde(skip_serializing_if = "is_zero")]
    clock: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(clock: &i64) -> bool {
    *clock == 0
}

/// Routes that a stream has not sent yet, and the number of the first.
#[derive(Serialize)]
struct NewRoutes<'a> {
    from: usize,
    routes: &'a [String],
}

impl Hub {
    pub(super) fn new(identity: ServiceIdentity, now: u64) -> Self {
        Self {
            identity,
            histories: HistoryCache::default(),
            state: Mutex::new(HubState {
                ring: Ring::new(MAX_BYTES),
                routes: Vec::new(),
                routes_bytes: 0,
                recent: Recent::new(),
                last: None,
                encode_until: now + WATCHED_AT_START,
                details: "null".to_owned(),
                details_event: Bytes::new(),
                details_version: 0,
                clock: 0,
            }),
            news: watch::Sender::new(Some(now)),
        }
    }

    /// Adds a tick. `routes` are all routes that are known.
    pub(super) fn publish(&self, tick: &Tick, routes: &[String]) {
        let event = self.encode(tick);
        {
            let mut state = self.lock();
            let known = state.routes.len();
            for route in &routes[known..] {
                // The capacity of the list may be twice its length.
                state.routes_bytes += route.len() + OVERHEAD + 2 * size_of::<String>();
                state.routes.push(route.clone());
            }
            match event {
                Some(event) => state.recent.push(event),
                None => state.recent.clear(),
            }
            state.last = Some(tick.time);
            state.ring.push(tick);
            state.fit_ring();
        }
        self.histories.forget();
        self.news.send_if_modified(|news| {
            let open = news.is_some();
            if open {
                *news = Some(tick.time);
            }
            open
        });
    }

    /// Whether a page is open at `time`, or was of late.
    pub(super) fn is_watched(&self, time: u64) -> bool {
        let mut state = self.lock();
        if self.streams() > 0 {
            state.encode_until = time + WATCHED;
        }
        time <= state.encode_until
    }

    /// A tick as an event, unless no page was open of late.
    fn encode(&self, tick: &Tick) -> Option<Event> {
        if !self.is_watched(tick.time) {
            return None;
        }
        let clock = self.lock().clock;
        Some(Event {
            time: tick.time,
            text: event("tick", Some(tick.time), &json(&NewTick { tick, clock })),
        })
    }

    /// Sets how many seconds the wall clock is ahead of the ticks' times, from the next tick on.
    pub(super) fn set_clock(&self, clock: i64) {
        self.lock().clock = clock;
    }

    /// Replaces the details. If they changed, streams send them with the next tick.
    pub(super) fn publish_details(&self, details: &DetailRows) {
        let text = json(details);
        let mut state = self.lock();
        if state.details != text {
            state.details_event = event("details", None, &text);
            state.details = text;
            state.details_version += 1;
            state.fit_ring();
        }
    }

    /// Ends all open streams, and any that is opened later.
    pub(super) fn close(&self) {
        self.news.send_replace(None);
    }

    /// Whether the hub is closed, so that no tick will follow.
    pub(super) fn is_closed(&self) -> bool {
        self.news.borrow().is_none()
    }

    /// A receiver on which a stream waits for ticks.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<u64>> {
        self.news.subscribe()
    }

    /// How many streams are open.
    pub(super) fn streams(&self) -> usize {
        self.news.receiver_count()
    }

    /// The ticks after `since` and up to `until`, merged to `step` seconds, with their routes and the details, as JSON. A
    /// negative `since` counts back from the last tick. Takes some tenths of a second for a busy hour.
    ///
    /// If the JSON would be larger than [`MAX_BYTES`], ticks are merged to more seconds.
    pub(super) fn history(&self, since: i64, until: Option<u64>, step: u64) -> Vec<u8> {
        let (records, routes, details, last, clock) = {
            let mut state = self.lock();
            let last = state.last.or(*self.news.borrow()).unwrap_or_default();
            // The page will open a stream that continues after it.
            state.encode_until = last + WATCHED;
            let since = if since < 0 {
                last.saturating_sub(since.unsigned_abs())
            } else {
                since.unsigned_abs()
            };
            let records = state.ring.between(since, until.unwrap_or(u64::MAX));
            (
                records,
                json(&state.routes),
                state.details.clone(),
                last,
                state.clock,
            )
        };
        let head = format!(
            r#"{{"instance":{},"last":{last},"clock":{clock},"routes":{routes},"ticks":["#,
            json(&self.identity),
        );
        // The details are already JSON.
        let tail = format!(r#"],"details":{details}}}"#);
        let coarser = COARSER_STEPS.into_iter().filter(|coarser| *coarser > step);
        let mut history = Vec::new();
        for step in iter::once(step).chain(coarser) {
            history.clear();
            history.extend_from_slice(head.as_bytes());
            if write_ticks(
                &mut history,
                &records,
                step,
                MAX_BYTES.saturating_sub(tail.len()),
            ) {
                break;
            }
        }
        history.extend_from_slice(tail.as_bytes());
        history
    }

    /// The next event of a stream; `None` if it has sent all.
    pub(super) fn next(&self, cursor: &mut Cursor) -> Option<Bytes> {
        let state = self.lock();
        let Some(known) = cursor.routes.replace(state.routes.len()) else {
            let hello = Hello {
                instance: &self.identity,
                routes: &state.routes,
                clock: state.clock,
            };
            let hello = event("hello", None, &json(&hello));
            return Some([RETRY, &hello].concat().into());
        };
        if known < state.routes.len() {
            let new = NewRoutes {
                from: known,
                routes: &state.routes[known..],
            };
            return Some(event("routes", None, &json(&new)));
        }
        if cursor.details < state.details_version {
            cursor.details = state.details_version;
            return Some(state.details_event.clone());
        }
        let recent = &state.recent.events;
        let last = state.last?;
        // A time in the future is from another run of the server, or the client invented it.
        cursor.time = cursor.time.min(last);
        let first = recent.front().map_or(last + 1, |event| event.time);
        // The tick after a rest covers several seconds, so times alone do not tell what was missed.
        if state.ring.has_between(cursor.time, first) {
            cursor.time = last;
            return Some(event("reset", Some(last), "{}"));
        }
        let next = recent.partition_point(|event| event.time <= cursor.time);
        let event = recent.get(next)?;
        cursor.time = event.time;
        Some(event.text.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends ticks, separated by commas. Returns `false`, and leaves out the rest, if they do not fit.
fn write_ticks(out: &mut Vec<u8>, records: &[PackedTick], step: u64, most_bytes: usize) -> bool {
    let mut end = out.len();
    for tick in merge(records, step) {
        if !out.ends_with(b"[") {
            out.push(b',');
        }
        // Cannot fail: it writes to memory, and all keys of maps are strings.
        let _written = serde_json::to_writer(&mut *out, &tick);
        if out.len() > most_bytes {
            out.truncate(end);
            return false;
        }
        end = out.len();
    }
    true
}

/// JSON on one line. Cannot fail for the values of this module: all keys of their maps are strings.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// A server-sent event. `data` is JSON without line breaks.
/// <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>
fn event(kind: &str, id: Option<u64>, data: &str) -> Bytes {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    // `concat` allocates the exact length: some events are large and are kept.
    ["event: ", kind, "\n", &id, "data: ", data, "\n\n"]
        .concat()
        .into()
}

#[cfg(test)]
mod tests;
