// The page: its state, which the URL keeps; the contents of its tiles, charts and tables; and its events.

import { code, endpoint, endpoints, number } from "./cells.js";
import { causesOfErrors } from "./causes.js";
import { Chart } from "./chart.js";
import { closeDialog, detailScript, onDialogClosed, showDialog } from "./dialog.js";
import { $, make, set } from "./dom.js";
import { NONE, bytes, clock, count, duration, moment, rate, ratio, seconds, setClock, shown } from "./format.js";
import { quantiles } from "./histogram.js";
import { changeLink, keptRequests, ofEndpoint } from "./kept.js";
import { blocks, requestsInFlight } from "./now.js";
import { CLASSES, OPERATIONS, SHARES, Store, figures } from "./store.js";
import { connections } from "./pool.js";
import { costlyStatements } from "./statements.js";
import { fetchHistory, follow, json } from "./stream.js";
import { Table } from "./table.js";

const WINDOWS = [5, 15, 60];

/**
 * The parts of the state that are texts: what chooses among the kept requests and the statements, the request whose timeline is
 * shown, and the statement that the dialog is about.
 */
const TEXTS = ["endpoint", "statement", "trace", "operation", "text", "request", "about"];
const ALL = { endpoint: null, statement: null, trace: null };

/** The large figures cover this many seconds. */
const NOW_SECONDS = 10;

/** The widths of points in seconds, and how many points a chart has at most. */
const STEPS = [1, 3, 5, 15];
const MOST_POINTS = 320;

const store = new Store();
let instance = null;
let names = [];
let details = null;
let lastTickAt = performance.now();
let connected = false;
let loading = 0;
let stale = false;
let following = false;
/** Why there is no stream, if the reason is known. */
let trouble = "";
/** How many requests block an event loop at this moment. */
let stalls = 0;

// ---- state, and the URL that keeps it

let state = readAddress();

function readAddress() {
  const query = new URLSearchParams(location.search);
  const number = (name) => Number(query.get(name)) || null;
  const window = number("window");
  const [from, to] = [number("from"), number("to")];
  return {
    window: WINDOWS.includes(window) ? window : WINDOWS[0],
    ...Object.fromEntries(TEXTS.map((name) => [name, query.get(name) || null])),
    paused: number("paused"),
    zoom: from && to && to > from ? [from, to] : null,
  };
}

function writeAddress() {
  const query = new URLSearchParams();
  query.set("window", state.window);
  for (const name of TEXTS) if (state[name]) query.set(name, state[name]);
  if (state.paused) query.set("paused", state.paused);
  if (state.zoom) {
    query.set("from", state.zoom[0]);
    query.set("to", state.zoom[1]);
  }
  history.pushState(null, "", `?${query}`);
}

/** Changes the state, and the URL unless the change came from there. */
function go(change, { address = true } = {}) {
  const before = state;
  state = { ...state, ...change };
  if (address) writeAddress();
  const differs = (...keys) => keys.some((key) => String(before[key]) !== String(state[key]));
  if (differs("window", "paused", "zoom")) load();
  if (differs(...Object.keys(ALL))) kept.refresh();
  if (differs("endpoint", "operation", "text")) statements.refresh();
  if (differs("request", "about")) showDetail();
  showControls();
  schedule();
}

// ---- range and data

const isLive = () => !state.paused && !state.zoom;

/** The time at the right edge while live: that of the last tick, or of the clock if no tick arrives. */
function now() {
  const silent = (performance.now() - lastTickAt) / 1000;
  return store.last + (silent > 2.5 ? Math.floor(silent - 1) : 0);
}

function range() {
  if (state.zoom) return state.zoom;
  const to = state.paused ?? now();
  return [to - state.window * 60, to];
}

async function load() {
  const token = ++loading;
  const [from, to] = range();
  const step = STEPS.find((width) => (to - from) / width <= MOST_POINTS) ?? STEPS.at(-1);
  const live = isLive();
  // The clocks of page and server may differ, so a live page requests a range that ends at the last tick.
  const since = (live ? from - to : Math.floor(from / step) * step) - 2 * step;
  $("charts").setAttribute("aria-busy", "true");
  try {
    const answer = await fetchHistory(live ? { since, step } : { since, step, until: to });
    if (token !== loading) return;
    stale = false;
    identify(answer);
    store.load(answer, step, live ? answer.last + since : since, live ? undefined : to);
    lastTickAt = performance.now();
    // The stream repeats the last seconds, as single ticks.
    if (!following) {
      follow(instance.version, () => store.recent.at(-1)?.time ?? store.last - NOW_SECONDS, events);
      for (const snapshot of [inFlight, pool, kept, causes, statements]) snapshot.follow((path) => instance.ops?.includes(path), isLive);
      if (instance.ops?.includes("/ops/log")) showLog();
      showDetail();
    }
    following = true;
  } catch (error) {
    stale = token === loading;
    if (!instance) set($("instance"), error.message);
    if (!following) setTimeout(load, 1000);
  }
  if (token === loading) $("charts").setAttribute("aria-busy", "false");
  schedule();
}

/** Takes over the server's identity, its routes and its details. */
function identify(answer) {
  instance = answer.instance;
  setClock(answer.clock);
  names = answer.routes;
  if (answer.details !== undefined) details = answer.details;
  const { name, version, documentation, host, pid, cores } = instance;
  $("instance").textContent = `${name} ${version} on ${host}, process ${pid}, ${cores} ${cores === 1 ? "core" : "cores"}`;
  $("documentation").hidden = !documentation;
  if (documentation) $("documentation").href = documentation;
  $("profiles").hidden = !instance.ops?.includes("/ops/profile");
}

/** Says by which filter is logged, as long as that is not the configured one. */
async function showLog() {
  if (!document.hidden) {
    const { log } = await json("ops").catch(() => ({}));
    set($("log"), log?.until ? `Logging by ${log.filter} until ${clock(Date.parse(log.until) / 1000)}.` : "");
  }
  setTimeout(showLog, 5000);
}

const events = {
  up: () => setConnected(true),
  down: () => setConnected(false),
  hello(data) {
    setConnected(true);
    identify(data);
    if (stale) load();
  },
  routes(data) {
    names.length = data.from;
    names.push(...data.routes);
  },
  tick(data) {
    lastTickAt = performance.now();
    setClock(data.clock);
    store.push(data, names, isLive(), data.time - state.window * 60 - store.step);
    schedule();
  },
  details(data) {
    details = data;
    schedule();
  },
  reset: () => load(),
  failed(why) {
    trouble = why;
    showControls();
  },
};

function setConnected(yes) {
  if (connected === yes) return;
  connected = yes;
  showControls();
  schedule();
}

function showControls() {
  const [kind, text] = !connected
    ? ["down", store.last ? "Reconnecting" : "Connecting"]
    : state.zoom
      ? ["held", "Zoomed"]
      : state.paused
        ? ["held", "Paused"]
        : ["live", "Live"];
  document.body.dataset.state = kind;
  set($("status"), (!connected && trouble) || text);
  $("pause").textContent = isLive() ? "Pause" : "Go live";
  $("unzoom").hidden = !state.zoom;
  for (const radio of document.querySelectorAll("[name=window]")) radio.checked = Number(radio.value) === state.window;
}

// ---- vital signs

/** `of` is the name of a figure, `level` the name of a level. */
const TILES = [
  { label: "Requests", unit: rate, of: "rate" },
  { label: "Errors", unit: ratio, of: "errors", hint: "Share of answers of 500 and above", alarm: (f) => f.errors >= 0.01 },
  ...["p50", "p95", "p99"].map((of) => ({ label: `Latency ${of}`, unit: seconds, of })),
  {
    label: "In flight",
    unit: count,
    level: "in_flight",
    note: () => blocks(stalls),
    alarm: () => stalls > 0,
  },
  { label: "Queries", unit: rate, of: "queries" },
  {
    label: "Pool",
    hint: "Connections in use, of the largest number",
    value: ({ levels }) => [count.format(levels.pool_used), `/ ${count.format(levels.pool_max)}`],
    below: ({ levels }, { peaks }) => `${count.format(levels.pool_waiting)} waiting, peak ${count.format(peaks.pool_waiting)}`,
    // A caller that is seen only once may be receiving a connection at that moment.
    alarm: ({ levels }) => levels.pool_waiting > 0 && (!isLive() || store.recent.at(-2)?.levels.pool_waiting > 0),
  },
  { label: "CPU", unit: ratio, of: "cpu", hint: "Of one core" },
  { label: "Memory", unit: bytes, level: "resident_bytes", hint: "Resident" },
  { label: "Loop lag p99", unit: seconds, of: "lag", hint: "Lag of the event loops" },
  {
    label: "Uptime",
    value: () => (uptime() >= 0 ? duration(uptime()).split(/ (?=\d)/) : [NONE]),
    below: () => (instance ? `since ${uptime() < 80_000 ? clock(shown(instance.started)) : moment(shown(instance.started)).slice(0, 10)}` : ""),
  },
];

const uptime = () => range()[1] - instance?.started;

for (const tile of TILES) {
  const [number, unit, whole] = [make("strong"), make("span"), make("dd", { className: "whole" })];
  const term = make("dt", { textContent: tile.label, title: tile.hint ?? "" });
  const box = make("div", {}, term, make("dd", { className: "value" }, number, unit), whole);
  tile.parts = { box, number, unit, whole };
  $("tiles").append(box);
}

function showTiles(whole) {
  const latest = isLive() ? figures(store.recent.slice(-NOW_SECONDS)) : whole;
  set($("span"), isLive() ? `Large: the last ${NOW_SECONDS} seconds. Small: the last ${state.window} minutes` : "In the time that the charts show");
  for (const { parts, unit, of, level, value, below, note, alarm } of TILES) {
    const [number, suffix] = value ? value(latest) : unit.parts(level ? latest.levels[level] : latest[of]);
    const across = () => (level ? `peak ${unit.format(whole.peaks[level])}` : isLive() ? `${state.window} min: ${unit.format(whole[of])}` : "");
    set(parts.number, number);
    set(parts.unit, suffix ?? "");
    set(parts.whole, note?.() || (below ? below(latest, whole) : across()));
    parts.box.classList.toggle("alarm", Boolean(alarm?.(latest)));
  }
}

// ---- charts

/** A chart of quantiles. `value` returns those of a point. */
const latency = (id, title, of, floor, value, more) => ({
  id,
  title,
  unit: seconds,
  floor,
  empty: `No ${of} in this time`,
  series: [["p50", "good"], ["p95", "low"], ["p99", "high"]].map(([label, color], i) => ({
    label,
    color,
    value: (point, endpoint) => value(point, endpoint)[i],
  })),
  ...more,
});
const level = (key, label, color, more) => ({ label, color, value: (point) => point.levels[key], ...more });
const quantilesOf = (name) => (point) => point.once(name, () => quantiles([point[name]], SHARES));

const SPECS = [
  {
    id: "throughput",
    title: "Throughput",
    unit: rate,
    floor: 1,
    stacked: true,
    ofEndpoint: true,
    // Errors are at the bottom, where the scale shows their height.
    series: [["5xx", "bad"], ["4xx", "warn"], ["other", "muted"], ["3xx", "mid"], ["2xx", "good"]].map(([label, color]) => ({
      label,
      color,
      fill: 0.32,
      rare: label === "3xx" || label === "other",
      value: (point, endpoint) => point.counts(endpoint)[CLASSES.indexOf(label)] / point.span,
    })),
  },
  latency("latency", "Latency", "requests", 1e-4, (point, endpoint) => point.latency(endpoint), { ofEndpoint: true }),
  {
    id: "in-flight",
    title: "In flight and pool",
    unit: count,
    floor: 4,
    series: [
      level("in_flight", "requests in flight", "good", { fill: 0.16 }),
      level("pool_used", "connections in use", "low"),
      level("pool_waiting", "waiting for one", "warn"),
      level("pool_max", "pool size", "muted", { dash: [5, 4] }),
    ],
  },
  {
    id: "queries",
    title: "Queries",
    unit: rate,
    floor: 1,
    stacked: true,
    series: OPERATIONS.map((label, i) => ({
      label,
      color: ["good", "low", "mid", "high", "muted"][i],
      fill: 0.32,
      rare: label === "other",
      value: (point) => point.queries[i] / point.span,
    })),
  },
  latency("query-latency", "Query latency", "queries", 1e-5, quantilesOf("query")),
  {
    id: "cpu",
    title: "CPU, of one core",
    unit: ratio,
    floor: 0.05,
    series: [{ label: "CPU", color: "good", fill: 0.16, value: (point) => (point.cpu == null ? null : point.cpu / point.span) }],
  },
  { id: "memory", title: "Memory", unit: bytes, floor: 2 ** 20, series: [level("resident_bytes", "resident", "high", { fill: 0.16 })] },
  latency("loop-lag", "Event-loop lag", "measurements", 1e-4, quantilesOf("lag")),
  { id: "files", title: "File descriptors", unit: count, floor: 10, series: [level("open_fds", "open", "low", { fill: 0.16 }), level("max_fds", "limit", "muted", { dash: [5, 4], off: true })] },
];

const page = {
  cursor: (time) => charts.forEach((chart) => chart.showCursor(time)),
  select: (range) => charts.forEach((chart) => chart.showSelection(range)),
  zoom(range) {
    const [from, to] = range.map(Math.round).sort((a, b) => a - b);
    if (to - from >= 2) go({ zoom: [from, to] });
  },
  reset: () => state.zoom && go({ zoom: null }),
  instance: () => (instance ? `${instance.name} on ${instance.host}` : ""),
};
const charts = SPECS.map((spec) => new Chart(spec, page));
$("grid").append(...charts.map((chart) => chart.root));

// ---- tables

function endpointButton({ name }) {
  return endpoint("button", name, { type: "button", onclick: () => go({ ...ALL, endpoint: state.endpoint === name ? null : name }) });
}

const some = (value) => value > 0;

const request = (id, title, hint, sort) =>
  new Table(
    id,
    title,
    hint,
    [
      {
        key: "time",
        label: "Time",
        text: true,
        node: ({ kept, time }) => (kept ? changeLink(moment(time), { request: kept }, go) : make("span", { textContent: moment(time) })),
      },
      endpoints(),
      { key: "status", label: "Status", alarm: (value) => value >= 500 },
      number("seconds", "Duration", seconds),
      number("db_seconds", "In database", seconds),
      number("queries", "Queries", count),
      { key: "trace_id", label: "Trace", text: true, node: (row) => code(row.trace_id ?? NONE) },
    ],
    { sort, key: JSON.stringify },
  );

const tables = {
  endpoints: new Table(
    "endpoints",
    "Endpoints",
    "Select one to see it in the charts",
    [
      endpoints({
        head: true,
        node: endpointButton,
        refresh: (button, { name }) => button.setAttribute("aria-pressed", String(name === state.endpoint)),
      }),
      number("total", "Requests", count),
      number("rate", "Rate", rate),
      number("errors", "Errors", ratio, { alarm: (value) => value >= 0.01 }),
      ...["p50", "p95", "p99"].map((key) => number(key, key, seconds)),
      { key: "queriesEach", label: "Queries / request", format: (value) => value.toFixed(1) },
      number("dbShare", "In database", ratio, { hint: "Share of the time spent in the database" }),
      { key: "nPlusOne", label: "N+1", hint: "Requests that ran the same statement again and again", format: (value) => (value > 0 ? `${count.format(value)} ×` : "none"), alarm: some },
    ],
    { sort: "rate", key: ({ name }) => name, selected: ({ name }) => name === state.endpoint },
  ),
  loops: new Table(
    "loops",
    "Event loops",
    "Which endpoints keep the workers busy, and single polls beyond the stall threshold",
    [
      endpoints({ head: true }),
      number("share", "Of all workers", ratio, { hint: "Share of the time of all workers" }),
      number("busy", "Time on loops", seconds),
      number("each", "Each request", seconds, { hint: "Mean time that a request keeps its event loop busy" }),
      number("stalls", "Stalls", count, { alarm: some }),
    ],
    { sort: "share", key: ({ name }) => name },
  ),
  slowest: request("slowest", "Slowest requests", "The slowest 50 of the last hour", "seconds"),
  errors: request("errors", "Latest errors", "The last 50 answers of 500 and above", "time"),
};

const inFlight = requestsInFlight((now) => {
  if (stalls !== now) schedule();
  stalls = now;
});
const pool = connections();
const kept = keptRequests(
  () => state,
  (id) => statements.table.rows.find((row) => String(row.id) === String(id))?.statement,
  go,
  ALL,
);
const causes = causesOfErrors(go);
const statements = costlyStatements(() => state, ofEndpoint, go, goToKept);
$("charts").after(...[inFlight.table, pool.table, tables.endpoints, kept.table, tables.loops, statements.table, tables.slowest, causes.table, tables.errors].map(({ section }) => section));

/** Shows the timeline or the statement that the state names, or closes the dialog. */
async function showDetail() {
  const { request, about } = state;
  if (!request && !about) return closeDialog();
  const isCurrent = () => request === state.request && about === state.about;
  try {
    const shown = await json(request ? `ops/requests/${encodeURIComponent(request)}` : `ops/statements/${encodeURIComponent(about)}`);
    const { showStatement, showTimeline } = await detailScript();
    if (isCurrent()) (request ? showTimeline : showStatement)(shown, go);
  } catch ({ message, status }) {
    if (!isCurrent()) return;
    if (status === 409) go({ request: null, trace: request });
    else showDialog(request ? "No timeline" : "No statement", [status === 404 ? `No ${request ? "request" : "statement"} with the id ${request ?? about} is kept now.` : message]);
  }
}
// A timeline may have been opened from a statement, which then comes back.
onDialogClosed(() => (state.request ? go({ request: null }) : state.about && go({ about: null })));

/** Chooses among the kept requests, and goes there. */
function goToKept(change) {
  go({ ...ALL, ...change });
  kept.table.section.scrollIntoView();
  kept.table.scroll.focus({ preventScroll: true });
}

let shownDetails;

function showDetails() {
  if (shownDetails === details) return;
  shownDetails = details;
  for (const id of ["slowest", "errors"]) {
    tables[id].update(details?.[id] ?? [], details?.[id] ? "None so far." : "This service does not record them.");
  }
}

function showChoice(endpoints) {
  const select = $("endpoint");
  const known = new Set(endpoints.map(({ name }) => name));
  if (state.endpoint) known.add(state.endpoint);
  const wanted = ["", ...[...known].sort()];
  if (wanted.join("\n") !== [...select.options].map((option) => option.value).join("\n")) {
    select.replaceChildren(...wanted.map((name) => new Option(name || "All endpoints", name)));
  }
  if (select.value !== (state.endpoint ?? "")) select.value = state.endpoint ?? "";
}

// ---- one rendering for all changes

let scheduled = false;

function schedule() {
  if (scheduled || document.hidden) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    render();
  });
}

function render() {
  if (!store.last && isLive()) return;
  const [from, to] = range();
  const whole = figures(store.between(from, to));
  showTiles(whole);
  showChoice(whole.endpoints);
  set($("range"), state.zoom || state.paused ? `${moment(shown(from))} to ${clock(shown(to))}` : `Last ${state.window} minutes`);
  const points = store.between(from - store.step, to);
  for (const chart of charts) chart.update(points, from, to, state.endpoint);
  tables.endpoints.update(whole.endpoints, "No requests in this time.");
  tables.loops.update(whole.loops, "No requests in this time.");
  showDetails();
}

$("windows").addEventListener("change", (event) => go({ window: Number(event.target.value), zoom: null }));
$("pause").addEventListener("click", () => go(isLive() ? { paused: now() } : { paused: null, zoom: null }));
$("unzoom").addEventListener("click", () => go({ zoom: null }));
$("endpoint").addEventListener("change", (event) => go({ endpoint: event.target.value || null }));
window.addEventListener("popstate", () => go(readAddress(), { address: false }));
document.addEventListener("visibilitychange", schedule);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", schedule);
setInterval(() => performance.now() - lastTickAt > 2500 && isLive() && schedule(), 1000);

$("unloaded").remove();
showControls();
load();
