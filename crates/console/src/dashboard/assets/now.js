// What runs at this moment. Unlike the rest of the page, it does not come from the ticks: the page requests it every second.

import { codes, endpoints, number } from "./cells.js";
import { make, set } from "./dom.js";
import { NONE, bytes, clock, count, seconds } from "./format.js";
import { json } from "./stream.js";
import { Table } from "./table.js";

const EVERY_MS = 1000;

/** An answer that takes longer comes from a server that is stuck. */
const PATIENCE_MS = 3000;

/** How the page calls what a request does. */
const DOING = {
  event_loop: "on the event loop",
  blocking_queue: "waits for a blocking thread",
  blocking_thread: "on a blocking thread",
  pool_wait: "waits for a connection",
  query: "in a query",
  transaction: "in a transaction, between queries",
  awaiting: "awaits something else",
  sending: "sends the answer",
  streaming: "streams",
};

/** A table of what an ops endpoint answers. `read(answer)` returns its rows and its hint. */
class Snapshot {
  constructor(path, table, empty, read) {
    Object.assign(this, { path, table, empty, read, at: null });
  }

  /** Requests the rows and shows them, or says why there are none. */
  async refresh() {
    try {
      const answer = await json(this.path, { signal: AbortSignal.timeout(PATIENCE_MS) });
      const { rows, hint } = this.read(answer);
      this.at = Date.now() / 1000;
      this.table.update(rows, this.empty);
      this.#say(hint);
      return answer;
    } catch (error) {
      const known = this.at ? `Below is the state of ${clock(this.at)}.` : "";
      const silent = /reached|time/.test(error.message);
      const why = silent ? `No answer to ${this.path}: the server is down, or the workers that could answer are stuck.` : error.message;
      this.#say(`${why} ${known}`, true);
      if (!this.at) this.table.update([], "Nothing is known yet.");
      return null;
    }
  }

  hold() {
    if (this.at) this.#say(`The state of ${clock(this.at)}.`);
  }

  #say(text, alarm = false) {
    set(this.table.hint, text);
    this.table.hint.classList.toggle("alarm", alarm);
  }
}

const requests = new Snapshot(
  "ops/requests",
  new Table(
    "now",
    "Right now",
    "",
    [
      number("age", "Age", seconds),
      endpoints(),
      {
        key: "doing",
        label: "Doing",
        text: true,
        node: () => make("span"),
        refresh(cell, row) {
          set(cell, row.doing);
          cell.classList.toggle("alarm", row.stall);
        },
      },
      number("since", "For", seconds, { hint: "How long it has been doing this" }),
      codes("statement", "Statement", NONE),
      { key: "sent", label: "Sent", hint: "Bytes of the answer's body", format: (value) => (value > 0 ? bytes.format(value) : NONE) },
      { key: "worker", label: "Worker", format: String },
      codes("trace", "Trace", NONE),
    ],
    { sort: "age", key: ({ position }) => position },
  ),
  "No request is in flight.",
  ({ requests, total, stalls }) => ({
    rows: requests.map((one, position) => ({
      position,
      age: one.age_seconds,
      name: `${one.method} ${one.endpoint ?? "(not known yet)"}`,
      stall: one.is_stall,
      doing: one.is_stall ? "blocks its event loop" : (DOING[one.doing] ?? one.doing),
      since: one.is_stall ? one.on_event_loop_seconds : one.doing_seconds,
      statement: one.statement,
      sent: one.sent_bytes,
      worker: one.worker,
      trace: one.trace_id,
    })),
    hint: `${count.format(total)} in flight${total > requests.length ? `, the oldest ${requests.length}` : ""}${stalls > 0 ? `; ${stalls} ${stalls === 1 ? "blocks" : "block"} an event loop` : ""}`,
  }),
);

const SNAPSHOTS = [requests];

/** The sections of the page, in their order. */
export const sections = SNAPSHOTS.map(({ table }) => table.section);

/**
 * Requests the snapshots for as long as the page is open. `offers(path)` returns whether the service has an ops endpoint,
 * and `isLive()` whether the page is neither paused nor zoomed. Calls `changed` with the number of stalls.
 */
export function watch(offers, isLive, changed) {
  const follow = async (snapshot) => {
    if (!offers(`/${snapshot.path}`)) snapshot.table.update([], "This service does not show them.");
    else if (!isLive()) snapshot.hold();
    else if (!document.hidden) {
      const answer = await snapshot.refresh();
      if (snapshot === requests) changed(answer?.stalls ?? 0);
    }
    setTimeout(follow, EVERY_MS, snapshot);
  };
  for (const snapshot of SNAPSHOTS) follow(snapshot);
}
