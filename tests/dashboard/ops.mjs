// What ops endpoints may answer at most: many requests, long names, and everything that can be missing. Contains no tests.

export const LONG = `/${"organisations/{organisation_id}/".repeat(6)}${"unbroken".repeat(20)}/{tail}*`;

export const LONG_STATEMENT = `SELECT ${'"data"."message", '.repeat(20)} FROM "data" WHERE "id" = ?`;
const TRACE = "0af7651916cd43dd8448eb211c80319c";

const kept = (i) => ({
  id: `00000000000000${10 + i}`,
  at: "2026-11-27T21:51:33.123Z",
  method: "GET",
  endpoint: LONG,
  status: i % 2 ? 200 : 503,
  ending: "client_left",
  reasons: ["slow", "failed", "n_plus_one"],
  trace_id: TRACE,
  seconds: 1 + i / 10,
  head_seconds: 0.9,
  database_seconds: 0.4,
  queries: 61,
});

const query = (i) => ({ kind: "query", offset_seconds: i / 50, seconds: 0.015, statement_id: (i % 2) + 1, is_unfinished: i === 15 });

const statement = {
  id: 1,
  statement: LONG_STATEMENT,
  operation: "select",
  pool: null,
  calls: 12345,
  errors: 2,
  unattributed_calls: 3,
  total_seconds: 12.5,
  mean_seconds: 0.001,
  p95_seconds: 0.003,
  rows: null,
  endpoints: ["GET /data", `GET ${LONG}`, "job export"],
  first_seen: "2026-11-27T21:51:33.123Z",
  last_seen: "2026-11-27T22:51:33.123Z",
};

const step = (operation, steps) => ({
  operation,
  table: "data",
  index: steps.length > 0 ? "data_by_message" : null,
  index_columns: ["message", "id"],
  rows: 1234,
  table_rows: 100000,
  cost: 12.5,
  conditions: [{ name: "Filter", text: `(${'"data"."message", '.repeat(20)} = ?)` }],
  steps,
});
const chosen = (operation, steps, flags) => ({ fingerprint: "0123456789abcdef", since: "2026-11-27T21:51:33.123Z", checked: "2026-11-27T22:51:33.123Z", flags, root: step(operation, steps) });

const minute = (i) => ({ at: new Date(Date.UTC(2026, 10, 27, 21, 52 + i)).toISOString(), calls: i % 7, p95_seconds: i % 7 ? 0.001 * i : null });

/** The answers by path. The last of the kept requests has a timeline. */
export const OPS = {
  "/ops/requests": {
    total: 500,
    stalls: 1,
    requests: Array.from({ length: 200 }, (_, i) => ({
      age_seconds: 200 - i,
      method: "GET",
      endpoint: i % 3 ? LONG : null,
      trace_id: TRACE,
      worker: i % 2,
      doing: "query",
      doing_seconds: 1,
      on_event_loop_seconds: i ? null : 3,
      is_stall: i === 0,
      statement: LONG_STATEMENT,
      sent_bytes: 12345 * i,
    })),
  },
  "/ops/pool": {
    leak_threshold_seconds: 30,
    wait_threshold_seconds: 1,
    pools: [{
      pool: "default",
      size: 2,
      in_use: 2,
      idle: 0,
      waiting: 1,
      summary: "2 of 2 connections: 1 x GET /data (oldest 41 s, idle in transaction), 1 x job export (oldest 2 s, in a query)",
      connections: [
        { kind: "request", method: "GET", endpoint: LONG, trace_id: TRACE, held_seconds: 41, doing: "idle_in_transaction", doing_seconds: 40, statement: null, taken_at: `${"src/".repeat(40)}main.rs:12:5`, is_leak: true },
        { kind: "job", method: null, endpoint: "export", trace_id: null, held_seconds: 2, doing: "query", doing_seconds: 1, statement: LONG_STATEMENT, taken_at: null, is_leak: false },
      ],
      waiters: [{ kind: "outside", method: null, endpoint: null, trace_id: null, waiting_seconds: 1.5 }],
      locks: {
        age_seconds: 4.2,
        unknown: null,
        waits: [{
          ...{ kind: "job", method: null, endpoint: "export", trace_id: null, application: null, doing: "query", doing_seconds: 1, statement: LONG_STATEMENT, waiting_seconds: 1 },
          held_by: [{ kind: "request", method: "GET", endpoint: LONG, trace_id: TRACE, application: null, doing: "idle_in_transaction", doing_seconds: 40, statement: null }],
          others: 0,
          is_deadlock: false,
          sentence: `job export waits for a lock held by GET ${LONG} (trace ${TRACE}), idle in transaction for 40 s`,
        }],
      },
    }],
  },
  "/ops/errors": {
    errors: [
      { method: "GET", endpoint: LONG, status: 503, kind: "error", types: ["Problem", `${"shop::orders::".repeat(6)}LostOrder`], title: "Service Unavailable", location: null, database_error: "timeout", count: 1234, first_seen: "2026-11-27T21:51:33.123Z", last_seen: "2026-11-27T21:52:33.123Z", last_kept: "0000000000000059" },
      { method: "POST", endpoint: "/data", status: 500, kind: "panic", types: [], title: null, location: "src/main.rs:12:5", database_error: null, count: 1, first_seen: "2026-11-27T21:51:33.123Z", last_seen: "2026-11-27T21:51:33.123Z", last_kept: null },
    ],
  },
  "/ops/statements": { since: "2026-11-27T21:51:33.123Z", statements: [statement, { ...statement, id: null, statement: "(other)", endpoints: [] }] },
  "/ops/statements/1": {
    ...statement,
    code_locations: [
      { kind: "request", method: "GET", endpoint: LONG, suspicions: [{ suspicion: "n_plus_one", advice: "read them in one query" }], file: `src/${"orders/".repeat(20)}list.rs`, line: 12, function: `${"shop::".repeat(30)}list`, note: null, captured_at: "2026-11-27T21:51:33.123Z" },
      { kind: "job", method: null, endpoint: "export", suspicions: [{ suspicion: "slow", advice: "look at its plan" }], file: null, line: null, function: null, note: "the program was built without debug lines", captured_at: "2026-11-27T21:51:33.123Z" },
    ],
    plan: {
      note: "A generic plan.",
      current: chosen("Sort", [step("Seq Scan", [])], [{ kind: "missing_index", sentence: "It reads a whole table.", advice: `CREATE INDEX ON "data" (${'"message", '.repeat(20)})` }]),
      reason: "the role of the pool may not do this",
      changes: [{ at: "2026-11-27T21:55:33.123Z", p95_before_seconds: 0.001, p95_after_seconds: null, before: chosen("Index Scan", [], []) }],
    }, history: Array.from({ length: 60 }, (_, i) => minute(i)),
    kept_requests: Array.from({ length: 20 }, (_, i) => kept(i)),
  },
  "/ops/requests/kept": { keeps: 1000, requests: Array.from({ length: 50 }, (_, i) => kept(i)) },
  "/ops/requests/0000000000000059": {
    ...kept(49),
    sent_bytes: 4096,
    loop_seconds: 0.01,
    polls: 4,
    longest_poll_seconds: 0.008,
    explained_percent: 99.2,
    times: [
      { kind: "query", seconds: 0.4, percent: 40, usual_seconds: 0.1 },
      { kind: "pool_wait", seconds: 0.2, percent: 20, usual_seconds: 0 },
    ],
    phases: [{ kind: "pool_wait", offset_seconds: 0.001, seconds: 0.2 }, ...Array.from({ length: 16 }, (_, i) => query(i))],
    left_out: [{ kind: "query", count: 45, seconds: 0.2 }],
    statements: [{ id: 1, statement: LONG_STATEMENT }, { id: 2, statement: null }],
    usual: { basis: "medians", requests: 12, since: "2026-11-27T21:51:33.123Z", seconds: 0.3 },
  },
};
