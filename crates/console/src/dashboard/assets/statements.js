// The statements: the table, what chooses among them, and the way to one of them.

import { code, number } from "./cells.js";
import { make, set } from "./dom.js";
import { NONE, count, moment, seconds } from "./format.js";
import { changeLink } from "./kept.js";
import { Snapshot } from "./snapshot.js";
import { OPERATIONS } from "./store.js";
import { json } from "./stream.js";
import { Table } from "./table.js";

const LISTING = "ops/statements";
const RESET = "ops/statements/reset";
const ORDERS = ["total", "mean", "calls", "errors", "p95"];

const tableOfStatements = (go, toKept, sorted) =>
  new Table(
    "statements",
    "Statements",
    "",
    [
      {
        key: "statement",
        label: "Statement",
        text: true,
        head: true,
        node({ id, statement }) {
          if (!id) return code(statement);
          const link = changeLink("", { about: id }, go);
          link.append(code(statement));
          return link;
        },
      },
      number("calls", "Calls", count),
      number("errors", "Errors", count, { alarm: (value) => value > 0 }),
      number("total_seconds", "Total time", seconds),
      number("mean_seconds", "Mean", seconds),
      number("p95_seconds", "p95", seconds),
      { key: "id", label: "Requests", text: true, node: ({ id }) => (id ? changeLink("kept", { statement: id }, toKept) : make("span", { textContent: NONE })) },
      { key: "endpoints", label: "Endpoints", text: true, node: () => make("span"), refresh: (span, row) => set(span, (span.title = row.endpoints.join(", "))) },
      { key: "pool", label: "Pool", text: true, node: (row) => make("span", { textContent: row.pool ?? "" }) },
    ],
    { sort: "total_seconds", key: ({ id }) => id ?? "", sorted },
  );

/**
 * The statements that match the state of the page: its endpoint, operation and text. `chosen(endpoint)` returns the parameters
 * that choose an endpoint. `toKept` goes to the kept requests of a statement.
 */
export const costlyStatements = (state, chosen, go, toKept) => {
  const table = tableOfStatements(go, toKept, () => snapshot.refresh());
  const path = () => {
    const { endpoint, operation, text } = state();
    const order = table.order.key.split("_")[0];
    const sort = ORDERS.includes(order) ? order : ORDERS[0];
    return `${LISTING}?${new URLSearchParams({ sort, ...chosen(endpoint), ...(operation && { operation }), ...(text && { text }) })}`;
  };
  const operation = make("select", { onchange: () => go({ operation: operation.value || null }) }, new Option("All", ""), ...OPERATIONS.map((name) => new Option(name)));
  const text = make("input", { type: "search", maxLength: 200, spellcheck: false, onchange: () => go({ text: text.value.trim() || null }) });
  const reset = make("button", {
    type: "button",
    textContent: "Reset",
    hidden: true,
    title: "Counts from now on, for everyone. The metrics keep their counts.",
    async onclick() {
      await json(RESET, { method: "POST" }).catch(({ message }) => alert(message));
      snapshot.refresh();
    },
  });
  const snapshot = new Snapshot(LISTING, table, {
    path,
    every: 5000,
    empty: "None so far.",
    follows: (offers) => (reset.hidden = !offers(`/${RESET}`)),
    read({ statements: rows, since }) {
      const { endpoint, operation: wanted, text: part } = state();
      operation.value = wanted ?? "";
      if (document.activeElement !== text) text.value = part ?? "";
      return { rows, hint: `The 50 that cost most${endpoint ? ` of ${endpoint}` : ""}, since ${moment(Date.parse(since) / 1000)}, without bound values` };
    },
  });
  table.hint.after(make("label", { className: "choice" }, "Operation ", operation), make("label", { className: "choice" }, "Search ", text), reset);
  return snapshot;
};
