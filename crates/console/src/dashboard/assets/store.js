// The data of the page: points in time, each the sum of one or more of the server's ticks. No network and no drawing.
//
// A tick has the numbers of one second. They add up (counts, seconds, histograms) or have a highest value (levels). So ticks
// merge into points of any width, and points into the figures of a range, without an average of averages.

import { decode, merge, quantiles } from "./histogram.js";

/** The classes of a status, in the order of the counts in a tick. */
export const CLASSES = ["2xx", "3xx", "4xx", "5xx", "other"];
const SERVER_ERRORS = 3;

/** The operations of queries, in the order of the counts in a tick. */
export const OPERATIONS = ["select", "insert", "update", "delete", "other"];

export const SHARES = [0.5, 0.95, 0.99];

/** How many ticks are kept for the figures of the last seconds, and to close the gap between history and stream. */
const RECENT = 60;

const plus = (a, b) => (b == null ? a : (a ?? 0) + b);

/** The highest value of each level in any of the points. */
function highest(points) {
  const levels = {};
  for (const point of points) {
    for (const [name, level] of Object.entries(point.levels)) levels[name] = Math.max(levels[name] ?? level, level);
  }
  return levels;
}

/** The sum of a set of requests. */
class Requests {
  counts = [0, 0, 0, 0, 0];
  seconds = 0;
  latency = [];
  queries = null;
  dbSeconds = null;
  nPlusOne = null;
  loopSeconds = null;

  /** Adds everything except the latency: quantiles of many sets are computed without merging them. */
  add(other) {
    this.counts = this.counts.map((value, i) => value + other.counts[i]);
    this.seconds += other.seconds;
    this.queries = plus(this.queries, other.queries);
    this.dbSeconds = plus(this.dbSeconds, other.dbSeconds);
    this.nPlusOne = plus(this.nPlusOne, other.nPlusOne);
    this.loopSeconds = plus(this.loopSeconds, other.loopSeconds);
    return this;
  }

  static sum(list) {
    return list.reduce((sum, one) => sum.add(one), new Requests());
  }

  static decode([, counts, seconds, latency, queries, dbSeconds, nPlusOne, loopSeconds]) {
    return Object.assign(new Requests(), { counts, seconds, latency: decode(latency), queries, dbSeconds, nPlusOne, loopSeconds });
  }
}

/** The numbers of the `width` seconds that end at `time`, or fewer: `span` is the observed time. */
class Point {
  constructor(fields) {
    Object.assign(this, fields);
    this.cache = new Map();
  }

  static decode(tick, names) {
    return new Point({
      ...tick,
      lag: decode(tick.lag),
      query: decode(tick.query),
      routes: new Map(tick.routes.map((route) => [names[route[0]], Requests.decode(route)])),
      stalls: new Map((tick.stalls ?? []).map(([endpoint, stalls]) => [names[endpoint], stalls])),
    });
  }

  /** Adds a later point, which is not changed. */
  add(later) {
    this.span += later.span;
    this.cpu = plus(this.cpu, later.cpu);
    this.lag = merge(this.lag, later.lag);
    this.query = merge(this.query, later.query);
    this.queries = this.queries.map((value, i) => value + later.queries[i]);
    this.levels = highest([this, later]);
    this.routes = new Map(this.routes);
    for (const [name, requests] of later.routes) {
      const mine = this.routes.get(name) ?? new Requests();
      const sum = Requests.sum([mine, requests]);
      sum.latency = merge(mine.latency, requests.latency);
      this.routes.set(name, sum);
    }
    this.stalls = new Map(this.stalls);
    for (const [pattern, stalls] of later.stalls) this.stalls.set(pattern, plus(this.stalls.get(pattern), stalls));
    this.cache.clear();
  }

  /** Computes a value of this point once. */
  once(key, compute) {
    if (!this.cache.has(key)) this.cache.set(key, compute(this));
    return this.cache.get(key);
  }

  /** The counts by class of an endpoint's requests, or of all requests. */
  counts(endpoint) {
    return this.once("counts " + endpoint, () => Requests.sum(this.requests(endpoint)).counts);
  }

  /** The latency quantiles of an endpoint's requests, or of all requests. */
  latency(endpoint) {
    return this.once("latency " + endpoint, () => quantiles(this.requests(endpoint).map((r) => r.latency), SHARES));
  }

  /** The requests of an endpoint, or those of each endpoint. */
  requests(endpoint) {
    if (endpoint === null) return [...this.routes.values()];
    return this.routes.has(endpoint) ? [this.routes.get(endpoint)] : [];
  }
}

export class Store {
  /** In ascending order of time. */
  points = [];
  /** The last ticks, each a point of one second. */
  recent = [];
  /** Seconds that a point covers. */
  step = 1;
  /** The last tick that the points contain. */
  applied = 0;
  /** The last tick that was received. */
  last = 0;

  /** Takes over an answer of `history` for points of `step` seconds. Removes points that are older than `since`. */
  load({ ticks, routes, last }, step, since, until = Infinity) {
    const loaded = ticks.map((tick) => Point.decode(tick, routes));
    const first = loaded.length > 0 ? loaded[0].time - loaded[0].width : Infinity;
    // A server that was restarted has no older ticks, so the page keeps its own.
    const kept = this.points.filter((point) => point.time > since && point.time <= Math.min(first, until));
    this.step = step;
    this.points = [];
    for (const point of kept) this.#place(point);
    for (const point of loaded) this.#place(point);
    this.applied = last;
    this.last = Math.max(this.last, last);
    for (const tick of this.recent) if (tick.time > last && tick.time <= until) this.#apply(tick);
  }

  /** Adds a tick of the stream. The points change only if they are `live`. */
  push(tick, names, live, since) {
    const point = Point.decode(tick, names);
    if (point.time > (this.recent.at(-1)?.time ?? 0)) {
      this.recent.push(point);
      if (this.recent.length > RECENT) this.recent.shift();
    }
    this.last = Math.max(this.last, point.time);
    if (!live || point.time <= this.applied) return;
    this.#apply(point);
    const keep = this.points.findIndex((point) => point.time > since);
    if (keep > 0) this.points.splice(0, keep);
  }

  #apply(point) {
    this.#place(point);
    this.applied = Math.max(this.applied, point.time);
  }

  /** Appends a point, or adds it to the last one if both belong to the same step. */
  #place(point) {
    const last = this.points.at(-1);
    const time = Math.ceil(point.time / this.step) * this.step;
    if (last?.time === time) {
      last.add(point);
    } else {
      this.points.push(new Point({ ...point, time, width: Math.max(point.width, this.step) }));
    }
  }

  /** The points of a range. */
  between(from, to) {
    return this.points.filter((point) => point.time > from && point.time <= to);
  }
}

const sum = (values) => values.reduce((a, b) => a + b, 0);
const share = (part, whole) => (whole > 0 ? part / whole : null);

function figuresOf(list, span) {
  const { counts, seconds, queries, dbSeconds, nPlusOne } = Requests.sum(list);
  const total = sum(counts);
  const [p50, p95, p99] = quantiles(list.map(({ latency }) => latency), SHARES);
  return {
    total,
    rate: share(total, span),
    errors: share(counts[SERVER_ERRORS], total),
    p50,
    p95,
    p99,
    queriesEach: queries === null ? null : share(queries, total),
    dbShare: dbSeconds === null ? null : share(dbSeconds, seconds),
    nPlusOne,
  };
}

/** The time on event loops by endpoint, all methods together: in all, of the time of all workers, and for each request. */
function loops(points, routes) {
  const capacity = sum(points.map((point) => point.span * (point.levels.workers ?? 0)));
  const rows = new Map();
  const row = (name) => {
    if (!rows.has(name)) rows.set(name, { name, total: 0, busy: null, stalls: 0 });
    return rows.get(name);
  };
  for (const [name, list] of routes) {
    const { counts, loopSeconds } = Requests.sum(list);
    const mine = row(name.slice(name.indexOf(" ") + 1));
    mine.total += sum(counts);
    mine.busy = plus(mine.busy, loopSeconds);
  }
  for (const point of points) for (const [name, stalls] of point.stalls) row(name).stalls += stalls;
  return [...rows.values()]
    .filter(({ busy, stalls }) => busy != null || stalls > 0)
    .map((one) => ({ ...one, share: share(one.busy, capacity), each: share(one.busy, one.total) }));
}

/** The figures of a set of points, for the whole service and for each endpoint. */
export function figures(points) {
  const span = sum(points.map((point) => point.span));
  const parts = new Map();
  for (const point of points) {
    for (const [name, requests] of point.routes) {
      if (!parts.has(name)) parts.set(name, []);
      parts.get(name).push(requests);
    }
  }
  const cpu = points.filter((point) => point.cpu != null);
  return {
    ...figuresOf([...parts.values()].flat(), span),
    loops: loops(points, parts),
    endpoints: [...parts].map(([name, list]) => ({ name, ...figuresOf(list, span) })),
    queries: share(sum(points.map((point) => sum(point.queries))), span),
    cpu: share(sum(cpu.map((point) => point.cpu)), sum(cpu.map((point) => point.span))),
    lag: quantiles(points.map((point) => point.lag), [0.99])[0],
    peaks: highest(points),
    levels: points.at(-1)?.levels ?? {},
  };
}
