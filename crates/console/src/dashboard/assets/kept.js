// The kept requests: the table, and links to their timelines.

import { codes, endpoints, number } from "./cells.js";
import { make } from "./dom.js";
import { NONE, count, moment, seconds } from "./format.js";
import { Snapshot } from "./snapshot.js";
import { Table } from "./table.js";
import { reasons } from "./words.js";

const ENDPOINT = "ops/requests/kept";
const LIMIT = 100;

/** A link that changes the state of this page, and whose URL does so elsewhere. */
export function changeLink(text, change, go) {
  const onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(change);
  };
  return make("a", { textContent: text, href: `?${new URLSearchParams(change)}`, onclick });
}

/** The parameters that choose an endpoint, if there is one. */
export function ofEndpoint(name) {
  const [, method, endpoint] = /^(\S+) (.*)$/s.exec(name ?? "") ?? [];
  return endpoint ? { method, endpoint } : {};
}

const rowKept = (one) => ({ ...one, time: Date.parse(one.at) / 1000, name: `${one.method} ${one.endpoint}`, why: reasons(one.reasons) });

const tableOfKept = (go) =>
  new Table(
    "kept",
    "Kept requests",
    "",
    [
      { key: "time", label: "Timeline", text: true, head: true, node: ({ id, time }) => changeLink(moment(time), { request: id }, go) },
      endpoints(),
      { key: "status", label: "Status", alarm: (value) => value >= 500 },
      number("seconds", "Duration", seconds),
      number("database_seconds", "In database", seconds),
      number("queries", "Queries", count),
      { key: "why", label: "Kept because", text: true },
      codes("trace_id", "Trace", NONE),
    ],
    { sort: "seconds", key: ({ id }) => id },
  );

/**
 * The kept requests that match the state of the page: its endpoint, statement and trace. `shape(id)` returns the shape of a
 * statement. `everything` is the change that chooses all of them.
 */
export const keptRequests = (state, shape, go, everything) => {
  const wanted = () => {
    const { endpoint, statement, trace } = state();
    return { ...ofEndpoint(endpoint), ...(statement && { statement }), ...(trace && { trace_id: trace }) };
  };
  const kept = new Snapshot(ENDPOINT, tableOfKept(go), {
    path: () => `${ENDPOINT}?${new URLSearchParams({ ...wanted(), limit: LIMIT })}`,
    every: 5000,
    empty: "None is kept.",
    read({ requests }) {
      const { endpoint, statement, trace } = state();
      const of = [endpoint && `of ${endpoint}`, statement && `that ran ${shape(statement) ?? "this statement"}`, trace && `of trace ${trace}`];
      all.hidden = !of.some(Boolean);
      const hint = all.hidden ? "Slow, failed, suspicious and random ones, each with its timeline" : of.filter(Boolean).join(", ");
      return { rows: requests.map(rowKept), hint };
    },
  });
  const all = make("button", { type: "button", textContent: "Show all", hidden: true, onclick: () => go(everything) });
  const trace = make("input", { type: "search", size: 34, spellcheck: false, onchange: () => go({ ...everything, trace: trace.value.trim().toLowerCase() || null }) });
  kept.table.hint.after(all, make("label", { className: "choice" }, "Trace id ", trace));
  return kept;
};
