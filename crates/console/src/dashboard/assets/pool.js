// The connections of the pools: who holds them, who waits for one, and who waits for a lock of the database.

import { codes, endpoints, number } from "./cells.js";
import { make, set } from "./dom.js";
import { NONE, count, seconds } from "./format.js";
import { Snapshot } from "./snapshot.js";
import { Table } from "./table.js";

/** How the page calls what a connection does. */
const HOLDS = {
  query: "in a query",
  idle_in_transaction: "idle in transaction",
  held_without_a_query: "held without a query",
};

/** The database is asked about locks each second. */
const OLD_SECONDS = 3;

/** The request or job that a connection is for. */
function owner({ kind, method, endpoint }) {
  const name = endpoint ?? "(not known yet)";
  return kind === "request" ? `${method} ${name}` : kind === "job" ? `job ${name}` : "outside of requests and jobs";
}

/** `of` names the pool if there are several. */
const held = (of) => (one) => ({
  ...one,
  name: owner(one),
  state: `holds one${of}${one.is_leak ? ", too long" : ""}`,
  since: one.held_seconds,
  does: `${HOLDS[one.doing] ?? one.doing}, ${seconds.format(one.doing_seconds)}`,
});

const waiting = (of) => (one) => ({ ...one, name: owner(one), state: `waits${of && ` for one${of}`}`, since: one.waiting_seconds });

/** A connection that waits for a lock. The sentence names who holds that. */
const locked = (of) => (one) => ({ ...one, name: owner(one), state: `waits for a lock${of}`, since: one.waiting_seconds, does: one.sentence, is_locked: true });

/** What is said of the locks of a pool: why they are not known, or how old the answer is if it is no longer of now. */
function ofLocks({ age_seconds, unknown }) {
  if (age_seconds === null) return "";
  if (unknown) return `; who waits for a lock is not known: ${unknown}`;
  return age_seconds > OLD_SECONDS ? `; locks as of ${seconds.format(age_seconds)} ago` : "";
}

const tableOfPool = () =>
  new Table(
    "pool",
    "Connections",
    "",
    [
      endpoints(),
      {
        key: "state",
        label: "Connection",
        text: true,
        node: () => make("span"),
        refresh(cell, { state, is_leak, is_locked }) {
          set(cell, state);
          cell.classList.toggle("alarm", Boolean(is_leak || is_locked));
        },
      },
      number("since", "For", seconds),
      { key: "does", label: "Doing", text: true },
      codes("statement", "Statement", NONE),
      codes("taken_at", "Taken at", NONE),
      codes("trace_id", "Trace", NONE),
    ],
    { sort: "since", key: ({ position }) => position },
  );

/** The holders of all pools and those that wait. */
export const connections = () =>
  new Snapshot("ops/pool", tableOfPool(), {
    steady: true,
    empty: "Nobody holds a connection.",
    read({ pools }) {
      const rows = pools.flatMap(({ pool, connections, waiters, locks }) => {
        const of = pools.length > 1 ? ` of ${pool}` : "";
        return [...locks.waits.map(locked(of)), ...connections.map(held(of)), ...waiters.map(waiting(of))];
      });
      const hints = pools.map(({ pool, summary, waiting, locks }) => `${pools.length > 1 ? `${pool}: ` : ""}${summary}${waiting > 0 ? `; ${count.format(waiting)} wait` : ""}${ofLocks(locks)}`);
      return { rows: rows.map((row, position) => ({ ...row, position })), hint: hints.join(". ") };
    },
  });
