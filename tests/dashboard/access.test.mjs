// Accessibility and layout: axe-core finds nothing serious in both colour schemes, at any width, full or empty. Nothing
// overlaps or overflows, however long a name is.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { LONG, LONG_STATEMENT, OPS } from "./ops.mjs";
import { Replay, busy } from "./replay.mjs";
import { Server, launch, open, rows, settled, until, violations } from "./support.mjs";

const ROUTES = ["GET /data", "GET /data/{item_id}", "POST /data", `GET ${LONG}`];

function request(i) {
  const name = ROUTES[i % ROUTES.length];
  const trace_id = i % 3 ? "0af7651916cd43dd8448eb211c80319c" : null;
  return { time: 1_700_000_000 + i, name, status: i % 2 ? 200 : 503, seconds: 1 + i / 10, db_seconds: 0.4, queries: 3, trace_id };
}

const DETAILS = {
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
      if (width < 1000) {
        await page.click("#close");
        await page.click("#statements a >> nth=0");
        await page.waitForSelector("#request[open] .chart");
        assert.deepEqual(await violations(page), []);
      }
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
  const page = await open(browser, `${replay.url}/dashboard?request=${OPS["/ops/requests/kept"].requests.at(-1).id}`);
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
  assert.ok(words.some(([name]) => name === `query: ${LONG_STATEMENT}`));
  assert.deepEqual(words.at(-1), ["45 more: query", "–", "200\u202fms"]);
  assert.equal(await page.locator("#request .track:not([aria-hidden=true])").count(), 0);
  await page.context().close();
});

test("a statement fits into any width, with its lines, its plan and the plan before", async () => {
  const page = await open(browser, `${replay.url}/dashboard?about=1`);
  await page.waitForSelector("#request[open] .chart");
  const [first, second] = await page.locator("#request .scroll > ul >> nth=0").locator("li").allTextContents();
  assert.match(first, /^src\/.*list\.rs:12 in shop::.*list, for GET .*; N\+1: read them in one query$/);
  assert.equal(second, "for job export; slow: look at its plan; the program was built without debug lines");
  assert.match(await page.textContent("#request .scroll > ul >> nth=1"), /^It reads a whole table\. CREATE INDEX/);
  const plan = await page.textContent("#request pre >> nth=1");
  assert.match(plan, /^Sort on data by data_by_message \(message, id\), about 1,234 rows\n {4}Filter: .*\n {2}Seq Scan on data, about 1,234 rows\n/);
  await page.click("#request summary");
  assert.match(await page.textContent("#request details[open]"), /^Changed at .*: p95 1.ms before, – since\. The plan beforeIndex Scan on data/);
  for (const width of [320, 820, 1440]) {
    await page.setViewportSize({ width, height: 700 });
    const { left, right } = await page.$eval("#request", (dialog) => dialog.getBoundingClientRect());
    assert.ok(left >= 0 && right <= width, `${left} to ${right} of ${width} pixels`);
    assert.equal(await page.$eval("#request", (dialog) => dialog.scrollWidth - dialog.clientWidth), 0, `at ${width} pixels`);
  }
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
