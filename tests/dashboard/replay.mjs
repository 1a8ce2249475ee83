// Replaces the parts of a server that take an hour to fill: the page comes from a real server, the history and the stream
// from here, at any speed.

import { createServer, get } from "node:http";

/** A spread of latencies around an index of the buckets. */
function spread(centre, width, count) {
  const list = [0];
  for (let i = 0; i < width; i++) list.push(i === 0 ? centre : 1, count);
  return list;
}

/** A tick with traffic on every route. */
export function busy(time, routes, buckets = 30) {
  const wave = 1 + Math.sin(time / 60) / 2;
  return {
    time,
    width: 1,
    span: 1,
    levels: { in_flight: Math.round(4 * wave), pool_used: 3, pool_idle: 7, pool_max: 10, pool_waiting: 0, resident_bytes: 3e7, open_fds: 40, max_fds: 1024 },
    cpu: 0.2 * wave,
    lag: spread(-330, 8, 2),
    queries: [120, 20, 8, 4, 0],
    query: spread(-350, buckets, 5),
    routes: routes.map((_, i) => [i, [Math.round(90 * wave), 0, 4, i % 3, 0], 1.5, spread(-260 + i, buckets, 3), 180, 0.6, i === 1 ? 1 : 0]),
  };
}

/** A tick in which nothing happened. */
export function idle(time) {
  return { ...busy(time, []), cpu: 0.001, queries: [0, 0, 0, 0, 0], query: [] };
}

const event = (tick) => `event: tick\nid: ${tick.time}\ndata: ${JSON.stringify(tick)}\n\n`;

export class Replay {
  /** `ops`: the answers of the ops endpoints that the page requests, by path. */
  static async start(server, { routes, ticks, details = null, ops = {} }) {
    const replay = new Replay();
    Object.assign(replay, { routes, ticks, details, ops, streams: new Set(), started: ticks[0].time - 100 });
    replay.http = createServer((request, response) => replay.#answer(server, request, response));
    await new Promise((resolve) => replay.http.listen(0, "127.0.0.1", resolve));
    replay.url = `http://127.0.0.1:${replay.http.address().port}`;
    return replay;
  }

  #answer(server, request, response) {
    const url = new URL(request.url, this.url);
    const instance = { id: "replay", name: "replay", version: "1.0.0", host: "test", pid: 1, cores: 2, started: this.started, ops: Object.keys(this.ops) };
    if (url.pathname === "/dashboard/history") {
      let since = Number(url.searchParams.get("since"));
      const until = Number(url.searchParams.get("until") ?? Infinity);
      const last = this.ticks.at(-1).time;
      if (since < 0) since += last;
      // The real server merges ticks. For wider steps, this sends every n-th tick with that width.
      const step = Number(url.searchParams.get("step"));
      const ticks = this.ticks
        .filter(({ time }) => time > since && time <= until && time % step === 0)
        .map((tick) => ({ ...tick, width: step }));
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ instance, last, routes: this.routes, ticks, details: this.details }));
    } else if (this.ops[url.pathname]) {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(this.ops[url.pathname]));
    } else if (url.pathname === "/dashboard/stream") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(`event: hello\ndata: ${JSON.stringify({ instance, routes: this.routes })}\n\n`);
      const since = Number(request.headers["last-event-id"] ?? url.searchParams.get("since") ?? Infinity);
      for (const tick of this.ticks) if (tick.time > since) response.write(event(tick));
      this.streams.add(response);
      request.on("close", () => this.streams.delete(response));
    } else {
      // A new connection, because the server may close an idle one just when it is used again.
      const own = get(server.url + request.url, { agent: false }, (real) => {
        response.writeHead(real.statusCode, real.headers);
        real.pipe(response);
      });
      own.on("error", () => response.destroy());
    }
  }

  /** Sends one more tick to every page. */
  push(tick) {
    this.ticks.push(tick);
    for (const stream of this.streams) stream.write(event(tick));
  }

  stop() {
    this.http.closeAllConnections();
    this.http.close();
  }
}
