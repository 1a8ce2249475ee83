// The causes of errors: failed requests by endpoint and cause.

import { endpoints, number } from "./cells.js";
import { make } from "./dom.js";
import { count, moment } from "./format.js";
import { changeLink } from "./kept.js";
import { Snapshot } from "./snapshot.js";
import { Table } from "./table.js";
import { cause } from "./words.js";

const tableOfCauses = (go) =>
  new Table(
    "causes",
    "Causes of errors",
    "",
    [
      endpoints({ head: true }),
      { key: "status", label: "Status", alarm: (value) => value >= 500 },
      { key: "cause", label: "Cause", text: true },
      number("count", "Requests", count),
      { key: "first", label: "First", text: true, format: moment },
      { key: "last", label: "Last", text: true, format: moment },
      {
        key: "last_kept",
        label: "Timeline",
        text: true,
        node: () => make("span"),
        refresh(cell, { last_kept: id }) {
          if (cell.title === (id ?? "")) return;
          cell.title = id ?? "";
          cell.replaceChildren(...(id ? [changeLink("of the last", { request: id }, go)] : []));
        },
      },
    ],
    { sort: "last", key: (row) => `${row.name} ${row.status} ${row.cause}` },
  );

/** The groups of failed requests. `go` changes the state of the page. */
export const causesOfErrors = (go) =>
  new Snapshot("ops/errors", tableOfCauses(go), {
    every: 5000,
    empty: "None so far.",
    read: ({ errors }) => ({
      rows: errors.map((group) => ({
        ...group,
        name: `${group.method} ${group.endpoint}`,
        cause: cause(group),
        first: Date.parse(group.first_seen) / 1000,
        last: Date.parse(group.last_seen) / 1000,
      })),
      hint: "Since the start, without the texts of errors",
    }),
  });
