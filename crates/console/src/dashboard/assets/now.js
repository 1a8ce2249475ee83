// What runs at this moment: the requests in flight.

import { codes, endpoints, number } from "./cells.js";
import { make, set } from "./dom.js";
import { NONE, bytes, count, seconds } from "./format.js";
import { Snapshot } from "./snapshot.js";
import { Table } from "./table.js";

/** How the page calls what a request does. */
const ACTIVITIES = {
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

const rowInFlight = (one, position) => ({
  position,
  age: one.age_seconds,
  name: `${one.method} ${one.endpoint ?? "(not known yet)"}`,
  stall: one.is_stall,
  doing: one.is_stall ? "blocks its event loop" : (ACTIVITIES[one.doing] ?? one.doing),
  since: one.is_stall ? one.on_event_loop_seconds : one.doing_seconds,
  statement: one.statement,
  sent: one.sent_bytes,
  worker: one.worker,
  trace: one.trace_id,
});

const tableInFlight = () =>
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
        refresh(cell, { doing, stall }) {
          set(cell, doing);
          cell.classList.toggle("alarm", stall);
        },
      },
      number("since", "For", seconds, { hint: "How long it has been doing this" }),
      codes("statement", "Statement", NONE),
      { key: "sent", label: "Sent", hint: "Bytes of the answer's body", format: (value) => (value > 0 ? bytes.format(value) : NONE) },
      { key: "worker", label: "Worker", format: String },
      codes("trace", "Trace", NONE),
    ],
    { sort: "age", key: ({ position }) => position },
  );

/** The number of stalls in words; empty for none. */
export const blocks = (stalls) => (stalls > 0 ? `${stalls} ${stalls === 1 ? "blocks" : "block"} an event loop` : "");

/** The requests in flight. Calls `stalled` with the number of stalls. */
export const requestsInFlight = (stalled) =>
  new Snapshot("ops/requests", tableInFlight(), {
    steady: true,
    empty: "No request is in flight.",
    read({ requests, total, stalls }) {
      stalled(stalls);
      const most = total > requests.length ? `the oldest ${requests.length}` : "";
      return { rows: requests.map(rowInFlight), hint: [`${count.format(total)} in flight`, most, blocks(stalls)].filter(Boolean).join("; ") };
    },
  });
