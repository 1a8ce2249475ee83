// Accessibility and layout: axe-core finds nothing serious in both colour schemes, at any width, full or empty. Nothing
// overlaps or overflows, however long a name is.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Replay, busy } from "./replay.mjs";
import { Server, launch, open, rows, settled, until, violations } from "./support.mjs";

const LONG = `/${"organisations/{organisation_id}/".repeat(6)}${"unbroken".repeat(20)}/{tail}*`;
const ROUTES = ["GET /data", "GET /data/{item_id}", "POST /data", `GET ${LONG}`];

const LONG_STATEMENT = `SELECT ${'"data"."message", '.repeat(20)} FROM "data" WHERE "id" = ?`;
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

const OPS = {
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
    }],
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

function request(i) {
  const name = ROUTES[i % ROUTES.length];
  const trace_id = i % 3 ? "0af7651916cd43dd8448eb211c80319c" : null;
  return { time: 1_700_000_000 + i, name, status: i % 2 ? 200 : 503, seconds: 1 + i / 10, db_seconds: 0.4, queries: 3, trace_id };
}

const DETAILS = {
  statements: [{ id: 1, shape: LONG_STATEMENT, calls: 12345, errors: 2, seconds: 12.5, mean: 0.001, p95: 0.003, endpoints: ["GET /data", `GET ${LONG}`] }],
  slowest: Array.from({ length: 50 }, (_, i) => request(i)),
  errors: Array.from({ length: 50 }, (_, i) => request(i * 2)),
};

let server, browser, replay;
before(async () => {
  [server, browser] = [await Server.start(), await launch()];
  const ticks = Array.from({ length: 600 }, (_, i) => busy(1_700_000_000 + i, ROUTES)).filter(({ time }) => time % 500 > 60);
  replay = await Replay.start(server, { routes: ROUTES, ticks, details: DETAILS, ops: OPS });
});
after(async () => {
  await browser.close();
  replay.stop();
  await server.remove();
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [360, 1440]) {
    test(`axe-core finds nothing serious in ${colorScheme} at ${width} pixels`, async () => {
      const page = await open(browser, `${replay.url}/dashboard`, { colorScheme, viewport: { width, height: 900 } });
      await until("the rows", async () => (await rows(page, "errors")).length === 50);
      assert.deepEqual(await violations(page), []);
      await page.click("#endpoints button.endpoint >> nth=0");
      await page.click("#chart-latency .legend button >> nth=0");
      await page.click("#pause");
      await settled(page);
      assert.deepEqual(await violations(page), []);
      await page.click("#kept a >> nth=0");
      await page.waitForSelector("#request[open] .track");
      assert.deepEqual(await violations(page), []);
      assert.deepEqual(page.faults, []);
      await page.context().close();
    });
  }
}

test("axe-core finds nothing serious where there is nothing yet", async () => {
  const page = await open(browser, `${server.url}/dashboard`);
  assert.deepEqual(await violations(page), []);
  await page.context().close();
});

test("nothing overflows the page or its box at any width, however long a name is", async () => {
  const page = await open(browser, `${replay.url}/dashboard?endpoint=${encodeURIComponent(`GET ${LONG}`)}`);
  await until("the rows", async () => (await rows(page, "errors")).length === 50);
  for (const width of [320, 390, 820, 1024, 1440, 2560]) {
    await page.setViewportSize({ width, height: 900 });
    await settled(page);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(wide, 0, `the page scrolls sideways at ${width} pixels`);
    const outside = await page.evaluate(() => {
      const found = [];
      for (const box of document.querySelectorAll("#tiles > div, figcaption, .legend li, .bar, .controls")) {
        const { left, right } = box.getBoundingClientRect();
        for (const part of box.querySelectorAll("*")) {
          const inner = part.getBoundingClientRect();
          const seen = inner.width > 1 && getComputedStyle(part).position !== "absolute";
          if (seen && (inner.left < left - 1 || inner.right > right + 1)) found.push(`${box.id || box.className}: ${part.textContent}`);
        }
      }
      return found;
    });
    assert.deepEqual(outside, [], `at ${width} pixels`);
  }
  await page.context().close();
});

test("a timeline fits into any width, and its table says in words what its bars show", async () => {
  const page = await open(browser, `${replay.url}/dashboard?request=0000000000000059`);
  await page.waitForSelector("#request[open] .track");
  for (const width of [320, 820, 1440]) {
    await page.setViewportSize({ width, height: 700 });
    const { left, right } = await page.$eval("#request", (dialog) => dialog.getBoundingClientRect());
    assert.ok(left >= 0 && right <= width, `${left} to ${right} of ${width} pixels`);
    assert.equal(await page.$eval("#request", (dialog) => dialog.scrollWidth - dialog.clientWidth), 0, `at ${width} pixels`);
  }
  const words = await page.$$eval("#request tbody tr", (rows) => rows.map((row) => [...row.cells].slice(0, 3).map((cell) => cell.textContent)));
  assert.deepEqual(words[1], ["query", "400\u202fms", "100\u202fms"]);
  assert.deepEqual(words[3], ["waits for a connection", "1\u202fms", "200\u202fms"]);
  assert.deepEqual(words.at(-1), ["45 more: query", "–", "200\u202fms"]);
  assert.equal(await page.locator("#request .track:not([aria-hidden=true])").count(), 0);
  await page.context().close();
});

test("each chart says in words what it shows", async () => {
  const page = await open(browser, `${replay.url}/dashboard`);
  await until("the rows", async () => (await rows(page, "errors")).length === 50);
  const texts = await page.locator(".chart .summary").allTextContents();
  assert.equal(texts.length, 9);
  for (const text of texts) assert.match(text, /, \d\d:\d\d:\d\d to \d\d:\d\d:\d\d\. .*latest .*lowest .*highest /);
  await page.context().close();
});

test("what the tables show of a request has no query string, header or body", async () => {
  const page = await open(browser, `${replay.url}/dashboard`);
  await until("the rows", async () => (await rows(page, "slowest")).length === 50);
  const headings = Object.keys((await rows(page, "slowest"))[0]);
  assert.deepEqual(headings, ["Time", "Endpoint", "Status", "Duration", "In database", "Queries", "Trace"]);
  await page.context().close();
});
