// One statement, in the dialog: its text, its endpoints, its lines of code, its plan, its last hour and the kept requests that
// ran it.

import { code } from "./cells.js";
import { Chart } from "./chart.js";
import { showDialog } from "./dialog.js";
import { make } from "./dom.js";
import { count, moment, seconds, shown } from "./format.js";
import { changeLink } from "./kept.js";
import { grid } from "./timeline.js";
import { reasons } from "./words.js";

const MINUTE = 60;

const HISTORY = [
  { id: "statement-calls", title: "Calls in each minute", unit: count, floor: 4, series: [{ label: "calls", color: "good", fill: 0.32, value: ({ calls }) => calls }] },
  { id: "statement-p95", title: "p95 of each minute", unit: seconds, floor: 1e-5, empty: "No calls in this time", series: [{ label: "p95", color: "low", value: ({ p95_seconds }) => p95_seconds }] },
];

/** The last hour as two charts. They have one cursor, and no zoom. */
function hour({ id, history }) {
  const ends = history.map(({ at }) => Date.parse(at) / 1000 - shown(0) + MINUTE);
  const points = history.map((minute, i) => ({ ...minute, time: ends[i], width: MINUTE }));
  const page = {
    cursor: (time) => charts.forEach((chart) => chart.showCursor(time)),
    select() {},
    zoom() {},
    reset: () => false,
    instance: () => `statement ${id}`,
  };
  const charts = HISTORY.map((spec) => new Chart(spec, page));
  const to = ends.at(-1);
  for (const chart of charts) chart.update(points, to - 60 * MINUTE, to, null);
  return make("div", { className: "pair" }, ...charts.map(({ root }) => root));
}

const facts = ({ operation, pool, calls, errors, unattributed_calls, total_seconds, mean_seconds, p95_seconds, first_seen }) => [
  operation,
  pool && `pool ${pool}`,
  `${count.format(calls)} ${calls === 1 ? "call" : "calls"}`,
  errors > 0 && `${count.format(errors)} failed`,
  unattributed_calls > 0 && `${count.format(unattributed_calls)} outside of requests and jobs`,
  `total ${seconds.format(total_seconds)}`,
  `mean ${seconds.format(mean_seconds)}`,
  `p95 ${seconds.format(p95_seconds)}`,
  `since ${moment(Date.parse(first_seen) / 1000)}`,
];

/** A heading, and texts or elements separated by commas. */
const list = (heading, parts) => make("p", {}, make("b", { textContent: `${heading}: ` }), ...parts.flatMap((part, i) => (i > 0 ? [", ", part] : [part])));

const requests = (kept, go) =>
  grid(
    "Kept requests that ran it, the newest first",
    ["Timeline", "Duration", "In database", "Endpoint and reason"],
    kept.map((one) => [
      changeLink(moment(Date.parse(one.at) / 1000), { request: one.id }, go),
      seconds.format(one.seconds),
      seconds.format(one.database_seconds),
      `${one.method} ${one.endpoint}, ${one.status}: ${reasons(one.reasons)}`,
    ]),
  );

/** How the page calls what a statement is suspected of. */
const SUSPICIONS = { n_plus_one: "N+1", identical: "identical reads", serial: "serial reads", slow: "slow" };

/** A heading and a list under it; nothing without entries. */
const entries = (heading, rows) => (rows.length > 0 ? [make("h3", { textContent: heading }), make("ul", {}, ...rows)] : []);

/** The line of code that ran it for an endpoint or a job, what it is suspected of, and the advice. */
function codeLine({ kind, method, endpoint, suspicions, file, line, function: name, note }) {
  const owner = kind === "request" ? `${method} ${endpoint ?? "(not known)"}` : kind === "job" ? `job ${endpoint}` : "code outside of requests and jobs";
  const place = file ? [code([file, line].filter(Boolean).join(":")), " in "] : [];
  const advice = suspicions.map(({ suspicion, advice }) => `${SUSPICIONS[suspicion] ?? suspicion}: ${advice}`);
  return make("li", {}, ...place, ...(name ? [code(name), ", "] : []), [`for ${owner}`, ...advice, note].filter(Boolean).join("; "));
}

/** A step of a plan and those that it gets its rows from, as indented lines. */
function outline({ operation, table, index, index_columns: columns, rows, conditions, steps }, depth = 0) {
  const indent = "  ".repeat(depth);
  const by = index && `by ${index}${columns.length > 0 ? ` (${columns.join(", ")})` : ""}`;
  const head = [operation, table && `on ${table}`, by].filter(Boolean).join(" ");
  return [
    `${indent}${head}${rows == null ? "" : `, about ${count.format(rows)} rows`}`,
    ...conditions.map(({ name, text }) => `${indent}    ${name}: ${text}`),
    ...steps.flatMap((step) => outline(step, depth + 1)),
  ];
}

const planText = (plan) => make("pre", {}, make("code", { textContent: outline(plan.root).join("\n") }));

/** A change of the plan: when, p95 before and after, and the plan before. */
function planChange({ at, p95_before_seconds, p95_after_seconds, before }) {
  const what = `Changed at ${moment(Date.parse(at) / 1000)}: p95 ${seconds.format(p95_before_seconds)} before, ${seconds.format(p95_after_seconds)} since. The plan before`;
  return make("details", {}, make("summary", { textContent: what }), planText(before));
}

/** What the database would do, what is wrong with it, and how it was before. */
function plan({ note, current, reason, changes }) {
  const flags = current?.flags ?? [];
  return [
    make("h3", { textContent: "Plan" }),
    ...(flags.length > 0 ? [make("ul", {}, ...flags.map(({ sentence, advice }) => make("li", {}, make("b", { textContent: sentence }), advice ? ` ${advice}` : "")))] : []),
    ...(current ? [planText(current)] : []),
    ...changes.map(planChange),
    make("p", { textContent: [reason && `No current plan: ${reason}.`, note].filter(Boolean).join(" ") }),
  ];
}

/** Shows a statement, as the server sends it. `go` changes the state of the page. */
export function showStatement(statement, go) {
  const { endpoints, kept_requests: kept, code_locations: lines } = statement;
  const links = endpoints.map((endpoint) => (endpoint.startsWith("job ") ? endpoint : changeLink(endpoint, { endpoint, about: null }, go)));
  showDialog(
    "Statement",
    facts(statement),
    make("pre", {}, code(statement.statement)),
    ...(links.length > 0 ? [list("Run by", links)] : []),
    ...entries("Lines of code", lines.map(codeLine)),
    ...(statement.plan ? plan(statement.plan) : []),
    hour(statement),
    ...(kept?.length > 0 ? [requests(kept, go)] : []),
  );
}
