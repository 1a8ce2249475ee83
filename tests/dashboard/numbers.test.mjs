// After known traffic, each number on the page agrees with the scrape.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { bounds, scrapeNative } from "./native.mjs";
import { Server, address, launch, number, open, rows, settled, table, tiles, until } from "./support.mjs";

const ROUNDS = 60;
const ROUTES = {
  "POST /data": { "2xx": ROUNDS, "4xx": ROUNDS },
  "GET /data/{item_id}": { "2xx": ROUNDS, "4xx": ROUNDS },
  "GET /data": { "2xx": ROUNDS },
  "GET unmatched": { "4xx": ROUNDS },
};
const TOTAL = 6 * ROUNDS;

let server, browser, page, history;
before(async () => {
  [server, browser] = [await Server.start(), await launch()];
  await server.traffic(ROUNDS);
  page = await open(browser, `${server.url}/dashboard`);
  await until("all of the traffic", async () => {
    const found = await rows(page, "endpoints");
    return found.reduce((sum, row) => sum + number(row.Requests), 0) === TOTAL;
  });
  // Nothing changes from here on.
  await page.click("#pause");
  await settled(page);
  const paused = /paused=(\d+)/.exec(await address(page))[1];
  history = (await server.request("GET", `/dashboard/history?until=${paused}`)).json;
});
after(async () => {
  await browser.close();
  await server.remove();
});

/** Equal, except for the rounding of the display. */
function near(shown, real, what, tolerance = 0.02) {
  assert.ok(Math.abs(shown - real) <= Math.abs(real) * tolerance, `${what}: ${shown} is shown for ${real}`);
}

const seconds = () => history.ticks.reduce((sum, tick) => sum + tick.span, 0);

/** Returns whether a quantile lies in its bucket, with a tolerance of 2 %. */
function within(shown, [lower, upper], what) {
  assert.ok(shown >= lower * 0.98 && shown <= upper * 1.02, `${what}: ${shown} is shown for ${lower} to ${upper}`);
}

test("each endpoint has exactly its requests, and its rate and errors", async () => {
  const scrape = await server.scrape();
  const shown = await rows(page, "endpoints");
  assert.deepEqual(shown.map((row) => row["Endpoint ↓"] ?? row.Endpoint).sort(), Object.keys(ROUTES).sort());
  for (const row of shown) {
    const [method, endpoint] = row.Endpoint.split(" ");
    let scraped = 0;
    for (const [sample, value] of scrape) {
      const here = sample.startsWith("http_requests_total{") && sample.includes(`method="${method}"`) && sample.includes(`endpoint="${endpoint}"`);
      if (here) scraped += value;
    }
    const sent = Object.values(ROUTES[row.Endpoint]).reduce((a, b) => a + b);
    assert.equal(number(row.Requests), sent, row.Endpoint);
    assert.equal(scraped, sent, row.Endpoint);
    near(number(row.Rate), sent / seconds(), `rate of ${row.Endpoint}`);
    assert.equal(row.Errors, "0%");
  }
});

test("the time that rates are taken over is the time that has passed", async () => {
  const started = (await server.scrape()).get("process_start_time_seconds");
  // The first tick begins after the process, and before its server listens. The server has newer ticks than the history.
  const [most, least] = [started, server.listened].map((time) => history.ticks.at(-1).time - time);
  assert.ok(seconds() < most + 2 && seconds() > least - 2, `${seconds()} for ${least} to ${most}`);
});

test("each endpoint's quantiles are those of the scrape's native histograms", async () => {
  const series = await scrapeNative(server, "http_request_duration_seconds");
  for (const row of await rows(page, "endpoints")) {
    const [method, endpoint] = row.Endpoint.split(" ");
    const own = series.filter(({ labels }) => labels.method === method && labels.endpoint === endpoint);
    for (const [name, share] of [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]]) {
      within(number(row[name]), bounds(own, share), `${name} of ${row.Endpoint}`);
    }
  }
});

test("each endpoint's queries and share of time in the database are those of the scrape", async () => {
  const scrape = await server.scrape();
  const total = (name, method, endpoint) => {
    let sum = 0;
    for (const [sample, value] of scrape) {
      if (sample.startsWith(`${name}{`) && sample.includes(`method="${method}"`) && sample.includes(`endpoint="${endpoint}"`)) sum += value;
    }
    return sum;
  };
  for (const row of await rows(page, "endpoints")) {
    const [method, endpoint] = row.Endpoint.split(" ");
    const each = total("http_request_db_queries_sum", method, endpoint) / total("http_request_db_queries_count", method, endpoint);
    assert.equal(row["Queries / request"], each.toFixed(1), row.Endpoint);
    const share = total("http_request_db_seconds_sum", method, endpoint) / total("http_request_duration_seconds_sum", method, endpoint);
    near(number(row["In database"]), share, `time in the database of ${row.Endpoint}`);
    assert.equal(row["N+1"], "none");
  }
});

test("the statements are those of the statements' own endpoint", async () => {
  const { statements } = (await server.request("GET", "/ops/statements")).json;
  const shown = await rows(page, "statements");
  assert.deepEqual(shown.map((row) => row.Statement).sort(), statements.map((one) => one.statement).sort());
  for (const row of shown) {
    const one = statements.find(({ statement }) => statement === row.Statement);
    assert.equal(number(row.Calls), one.calls);
    near(number(row["Total time"]), one.total_seconds, "total time");
    near(number(row.Mean), one.mean_seconds, "mean");
    near(number(row.p95), one.p95_seconds, "p95");
    assert.equal(row.Endpoints, one.endpoints.join(", "));
  }
});

test("the slowest requests are listed by pattern, slowest first, with their trace", async () => {
  const shown = await rows(page, "slowest");
  assert.equal(shown.length, 50);
  const durations = shown.map((row) => number(row.Duration));
  assert.deepEqual(durations, [...durations].sort((a, b) => b - a));
  for (const row of shown) {
    assert.ok(row.Endpoint in ROUTES, row.Endpoint);
    assert.match(row.Status, /^(200|201|404|422)$/);
    assert.match(row.Trace, /^(–|[0-9a-f]{32})$/);
    assert.ok(number(row["In database"]) <= number(row.Duration));
  }
  assert.equal((await rows(page, "errors")).length, 0);
});

test("the vital signs are those of the whole service, without the page's own traffic", async () => {
  const [shown, scrape] = [await tiles(page), await server.scrape()];
  near(number(shown.Requests[0]), TOTAL / seconds(), "requests");
  assert.equal(shown.Errors[0], "0%");
  const service = ({ labels }) => !/^\/(dashboard|metrics|ops)\b/.test(labels.endpoint);
  const series = (await scrapeNative(server, "http_request_duration_seconds")).filter(service);
  for (const [name, share] of [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]]) {
    within(number(shown[`Latency ${name}`][0]), bounds(series, share), name);
  }
  let queries = 0;
  for (const [sample, value] of scrape) if (sample.startsWith("db_queries_total{")) queries += value;
  near(number(shown.Queries[0]), queries / seconds(), "queries");
  assert.equal(shown["In flight"][0], "0");
  assert.equal(shown.Pool[0], `0/ ${[...scrape].reduce((sum, [sample, value]) => (sample.startsWith("db_pool_max_connections{") ? sum + value : sum), 0)}`);
  assert.match(shown.Pool[1], /^0 waiting/);
  const used = history.ticks.reduce((sum, tick) => sum + tick.cpu, 0);
  near(number(shown.CPU[0]), used / seconds(), "CPU");
  assert.ok(used <= scrape.get("process_cpu_seconds_total"), "no more processor time than there was");
});

test("the charts add up to the same", async () => {
  const spans = new Map(history.ticks.map((tick) => [String(tick.time), tick.span]));
  const sum = (points, column) => points.reduce((total, point) => total + Number(point[column]) * spans.get(point["epoch (seconds)"]), 0);
  const throughput = await table(page, "throughput");
  assert.equal(throughput.length, history.ticks.length);
  assert.ok(Math.abs(sum(throughput, "2xx (per second)") - 3 * ROUNDS) < 0.01);
  assert.ok(Math.abs(sum(throughput, "4xx (per second)") - 3 * ROUNDS) < 0.01);
  assert.equal(sum(throughput, "5xx (per second)"), 0);
  const queries = await table(page, "queries");
  const scrape = await server.scrape();
  for (const operation of ["select", "insert"]) {
    let scraped = 0;
    for (const [sample, value] of scrape) if (sample.startsWith(`db_queries_total{operation="${operation}"`)) scraped += value;
    assert.ok(Math.abs(sum(queries, `${operation} (per second)`) - scraped) < 0.01, operation);
  }
});

test("the levels are those of the scrape", async () => {
  const live = await open(browser, `${server.url}/dashboard`);
  const levels = { memory: ["resident (bytes)", "process_resident_memory_bytes"], files: ["open", "process_open_fds"] };
  for (const [chart, [column, family]] of Object.entries(levels)) {
    // They change by themselves. At some moment the last tick and a scrape agree.
    await until(family, async () => {
      const scraped = (await server.scrape()).get(family);
      const shown = Number((await table(live, chart)).at(-1)[column]);
      return Math.abs(shown - scraped) <= scraped * 0.02;
    });
  }
  await live.context().close();
});
