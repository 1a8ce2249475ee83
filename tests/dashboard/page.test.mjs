// The page as delivered: its requests, its policy, and its empty state.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { Replay, idle } from "./replay.mjs";
import { Server, launch, newContext, open, settled, table, tiles, until } from "./support.mjs";

let server, browser;
before(async () => ([server, browser] = [await Server.start(), await launch()]));
after(async () => {
  await browser.close();
  await server.remove();
});

test("the page loads without an error, a failed request or a request to anyone else", async () => {
  const page = await open(browser, `${server.url}/dashboard`);
  await until("the stream", async () => (await page.textContent("#status")) === "Live");
  const loaded = (await table(page, "cpu")).length;
  await until("two ticks", async () => (await table(page, "cpu")).length >= loaded + 2);
  assert.deepEqual(page.faults, []);
  assert.equal(await page.locator(".chart").count(), 9);
  assert.equal(await page.locator("#documentation:visible").evaluate((link) => link.href), `${server.url}/docs`);
  assert.match(await page.textContent("#instance"), /^actix-vitals [\d.]+ on \S+, process \d+, \d+ cores?$/);
  await page.context().close();
});

test("all that it loads weighs at most 75 kilobytes", async () => {
  const page = await (await newContext(browser)).newPage();
  let weight = 0;
  const parts = [];
  page.on("response", async (response) => {
    const { pathname } = new URL(response.url());
    if (!/history|stream/.test(pathname)) parts.push(response.body().catch(() => Buffer.alloc(0)).then((body) => (weight += body.length)));
  });
  await page.goto(`${server.url}/dashboard`, { waitUntil: "load" });
  await until("page, style, script and icon", () => parts.length >= 4);
  await Promise.all(parts);
  assert.ok(weight > 20_000 && weight <= 75_000, `${weight} bytes`);
  await page.context().close();
});

test("the policy forbids what the page does not need, and the parts are known again by their tags", async () => {
  const page = await fetch(`${server.url}/dashboard`);
  const policy = page.headers.get("content-security-policy");
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /frame-ancestors 'none'/);
  assert.doesNotMatch(policy, /unsafe|\*|data:|https?:/);
  assert.equal(page.headers.get("x-content-type-options"), "nosniff");
  const tag = page.headers.get("etag");
  const again = await fetch(`${server.url}/dashboard`, { headers: { "if-none-match": tag } });
  assert.equal(again.status, 304);
  for (const [part, type] of [["app.js", "text/javascript"], ["style.css", "text/css"], ["icon.svg", "image/svg+xml"]]) {
    const answer = await fetch(`${server.url}/dashboard/${part}`);
    assert.equal(answer.status, 200);
    assert.ok(answer.headers.get("content-type").startsWith(type), part);
    assert.ok(answer.headers.get("etag"), part);
  }
  for (const path of ["/dashboard/index.html", "/dashboard/..%2fapp.js", "/dashboard/none.js"]) {
    assert.equal((await fetch(server.url + path)).status, 404, path);
  }
});

test("an axis uses the unit of its maximum, with round steps", async () => {
  const source = readFileSync(new URL("../../crates/console/src/dashboard/assets/format.js", import.meta.url), "utf8");
  const units = await import(`data:text/javascript,${encodeURIComponent(source)}`);
  const labels = (unit, max) => units[unit].axis(max, 3).ticks.map(([, label]) => label);
  assert.deepEqual(labels("seconds", 0.0004), ["0", "200\u202fµs", "400\u202fµs"]);
  assert.deepEqual(labels("seconds", 0.00093), ["0", "0.5\u202fms", "1.0\u202fms"]);
  assert.deepEqual(labels("seconds", 1.2), ["0", "0.5\u202fs", "1.0\u202fs"]);
  assert.deepEqual(labels("bytes", 1023 * 2 ** 20), ["0", "0.5\u202fGiB", "1.0\u202fGiB"]);
  assert.deepEqual(labels("ratio", 0.05), ["0", "2\u202f%", "4\u202f%"]);
  assert.deepEqual(labels("count", 1), ["0", "1"]);
});

test("history and stream refuse what makes no sense", async () => {
  for (const query of ["step=0", "step=4000", "since=now", "until=-1", "step=1.5"]) {
    const answer = await fetch(`${server.url}/dashboard/history?${query}`);
    assert.equal(answer.status, 400, query);
    assert.match(answer.headers.get("content-type"), /problem\+json/);
  }
  assert.equal((await fetch(`${server.url}/dashboard/stream`, { method: "POST" })).status, 405);
});

test("callers that wait are an alarm once they are seen twice in a row", async (t) => {
  const ticks = Array.from({ length: 60 }, (_, i) => idle(1_700_000_000 + i));
  const replay = await Replay.start(server, { routes: [], ticks });
  t.after(() => replay.stop());
  const page = await open(browser, `${replay.url}/dashboard`);
  await until("the stream", () => replay.streams.size === 1);
  const alarms = () => page.locator("#tiles .alarm").count();
  for (const [i, [waiting, expected]] of [[1, 0], [2, 1], [0, 0], [3, 0]].entries()) {
    const tick = idle(1_700_000_060 + i);
    tick.levels.pool_waiting = waiting;
    replay.push(tick);
    await until("the tick", async () => (await tiles(page)).Pool[1].startsWith(`${waiting} waiting`));
    assert.equal(await alarms(), expected, `${waiting} waiting`);
  }
  await page.context().close();
});

test("without any traffic the page is calm and says so", async (t) => {
  const ticks = Array.from({ length: 400 }, (_, i) => idle(1_700_000_000 + i));
  const replay = await Replay.start(server, { routes: [], ticks });
  t.after(() => replay.stop());
  const page = await open(browser, `${replay.url}/dashboard`);
  await settled(page);
  const shown = await tiles(page);
  assert.equal(shown.Requests[0], "0/s");
  for (const label of ["Errors", "Latency p50", "Latency p99"]) assert.equal(shown[label][0], "–", label);
  assert.deepEqual(await page.locator(".empty:visible").allTextContents(), [
    "This service does not show them.",
    "This service does not show them.",
    "No requests in this time.",
    "This service does not show them.",
    "No requests in this time.",
    "This service does not show them.",
    "This service does not record them.",
    "This service does not show them.",
    "This service does not record them.",
  ]);
  assert.match(await page.textContent("#chart-latency .summary"), /p50: no values\./);
  assert.equal(await page.locator("#documentation").isVisible(), false, "a service that says nothing of its documentation");
  assert.deepEqual(page.faults, []);
  await page.context().close();
});
