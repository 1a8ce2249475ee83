// The timeline of one kept request, as a waterfall. Each bar is in a row of a table, so that the table says the same in words.

import { code } from "./cells.js";
import { showDialog } from "./dialog.js";
import { make } from "./dom.js";
import { NONE, bytes, count, moment, seconds } from "./format.js";
import { ENDINGS, cause, reasons } from "./words.js";

/** How the page calls the phases of a request. */
const PHASES = {
  query: "query",
  transaction_control: "begins or ends a transaction",
  blocking_queue: "waits for a blocking thread",
  pool_wait: "waits for a connection",
  transaction: "in a transaction",
  blocking_thread: "on a blocking thread",
  event_loop: "on the event loop",
  awaiting: "awaits something else",
  body_awaiting: "the body awaits something",
  sending: "waits for the client",
};

/** In the waterfall, where phases overlap: what a wait is for has rows of its own. */
const WAITS = { ...PHASES, awaiting: "the handler awaits", body_awaiting: "the body awaits" };

/** Phases of less than this share of the request are shown together, if several follow each other and none is a query. */
const SHORT = 0.005;

/** A table with a caption. Each row has a heading, two numbers and a bar. */
export function grid(caption, headings, rows) {
  const cell = (tag, more) => (content, i) => {
    const child = make(tag, { ...more, className: i === 1 || i === 2 ? "number" : "words" });
    child.append(content);
    return child;
  };
  const row = ([first, ...rest]) => make("tr", {}, cell("th", { scope: "row" })(first, 0), ...rest.map((content, i) => cell("td")(content, i + 1)));
  return make(
    "table",
    {},
    make("caption", { textContent: caption }),
    make("thead", {}, make("tr", {}, ...headings.map(cell("th", { scope: "col" })))),
    make("tbody", {}, ...rows.map(row)),
  );
}

/** Bars as `[kind, start, length]`, the last two as shares of the width. They repeat numbers of their row. */
function track(...bars) {
  const line = make("div", { className: "track" });
  line.setAttribute("aria-hidden", "true");
  for (const [kind, start, length] of bars) {
    const bar = make("i", { className: kind });
    bar.style.left = `${Math.min(start, 1) * 100}%`;
    bar.style.width = `${Math.min(length, 1 - start) * 100}%`;
    line.append(bar);
  }
  return line;
}

const spent = (phases) => phases.reduce((total, phase) => total + phase.seconds, 0);

/** Splits phases into lists: several short ones that follow each other, or one of the others. */
function groups(phases, total) {
  const list = [];
  let open = false;
  for (const phase of phases) {
    const short = phase.kind !== "query" && phase.seconds < total * SHORT;
    if (short && open) list.at(-1).push(phase);
    else list.push([phase]);
    open = short;
  }
  return list.flatMap((group) => (group.length > 2 ? [group] : group.map((phase) => [phase])));
}

/** The phases of a request, each at its time. */
function waterfall({ phases, left_out, statements, times, seconds: total }) {
  const shapes = new Map(statements.map(({ id, statement }) => [id, statement]));
  let last;
  const query = (id) => {
    const again = id && id === last;
    last = id ?? last;
    return again ? [": the same statement"] : shapes.get(id) ? [": ", code(shapes.get(id))] : [];
  };
  const rows = groups(phases, total).map((group) => {
    const [{ kind, offset_seconds, statement_id, is_unfinished }] = group;
    const name = group.length > 1 ? `${group.length} short ones: ${[...new Set(group.map(({ kind }) => WAITS[kind]))].join(", ")}` : WAITS[kind];
    return [
      make("span", {}, name + (is_unfinished ? ", unfinished" : ""), ...query(statement_id)),
      seconds.format(offset_seconds),
      seconds.format(spent(group)),
      track(...group.map((phase) => [phase.kind, phase.offset_seconds / total, phase.seconds / total])),
    ];
  });
  // Waits are listed between the first polls only.
  const waits = times
    .filter(({ kind }) => ["awaiting", "body_awaiting", "sending"].includes(kind))
    .map((time) => ({ ...time, seconds: time.seconds - spent(phases.filter(({ kind }) => kind === time.kind)) }))
    .filter((time) => time.seconds > total * SHORT);
  const rest = [...left_out, ...waits].map((one) => [`${one.count ? `${count.format(one.count)} ` : ""}more: ${WAITS[one.kind]}`, NONE, seconds.format(one.seconds), ""]);
  return grid("What it did, and when", ["Phase", "Starts after", "Takes", "Time"], [...rows, ...rest]);
}

/** The time by kind, beside the medians of the endpoint's requests. */
function comparison({ times, usual, seconds: total }) {
  const width = Math.max(total, usual?.seconds ?? 0);
  const row = (name, kind, mine, median) => [
    name,
    seconds.format(mine),
    seconds.format(median),
    track([kind, 0, mine / width], ...(median == null ? [] : [["median", 0, median / width]])),
  ];
  return grid(
    usual ? `Beside the median of ${count.format(usual.requests)} random ${usual.requests === 1 ? "request" : "requests"} of its endpoint` : "No other request of its endpoint is kept to compare with",
    ["Phase", "This request", "Median", usual ? "Thin: the median" : "Time"],
    [row("all", "", total, usual?.seconds), ...times.map((time) => row(PHASES[time.kind], time.kind, time.seconds, time.usual_seconds))],
  );
}

/** Shows the timeline of a request, as the server sends it. */
export function showTimeline(request) {
  const longest = request.longest_poll_seconds;
  const facts = [
    request.status,
    seconds.format(request.seconds),
    moment(Date.parse(request.at) / 1000),
    request.cause ? cause(request.cause) : ENDINGS[request.ending],
    `kept because: ${reasons(request.reasons)}`,
    `${request.explained_percent.toFixed(1)} % explained`,
    longest && `longest poll ${seconds.format(longest)}`,
    request.sent_bytes > 0 && `${bytes.format(request.sent_bytes)} sent`,
    request.trace_id && `trace ${request.trace_id}`,
  ];
  showDialog(`${request.method} ${request.endpoint}`, facts, comparison(request), waterfall(request));
}
