// What runs right now, on the page: requests that block, also while every worker is stuck, and what the loops spent.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Shop, launch, number, open, rows, tiles, until, violations } from "./support.mjs";

let shop, browser, page;
before(async () => {
  [shop, browser] = [await Shop.start(), await launch()];
  page = await open(browser, `${shop.ops}/dashboard`);
});
after(async () => {
  await browser.close();
  await shop.stop();
});

const now = () => rows(page, "now");
const heading = (table) => page.textContent(`section:has(#${table}) .bar`);

test("without traffic it says that nothing runs", async () => {
  await until("the answer", async () => (await page.textContent("section:has(#now) .empty")) === "No request is in flight.");
  assert.match(await heading("now"), /0 in flight/);
});

/** Where the table of the endpoints begins, below the requests in flight. */
const top = () => page.$eval("#endpoints", (table) => table.getBoundingClientRect().top + scrollY);

/** Requests that each block a worker for two seconds: together for longer than the page takes to show them. */
const BLOCKING = 16;

test("requests that block every worker are shown while they last", async () => {
  const answered = [];
  const reports = Array.from({ length: BLOCKING }, () => shop.get("/report").then(() => answered.push(1)));
  const blocked = await until("two stalls", async () => {
    const found = (await now()).filter(({ Doing }) => Doing === "blocks its event loop");
    return found.length === 2 && found;
  });
  const before = await top();
  const known = answered.length;
  assert.ok(known < BLOCKING, "they were shown while requests of the kind were in flight");
  for (const row of blocked) assert.equal(row.Endpoint, "GET /report");
  assert.deepEqual(blocked.map(({ Worker }) => Worker).sort(), ["0", "1"]);
  // While one of them ends and the next one begins, fewer are shown.
  await until("the heading", async () => /2 block an event loop/.test(await heading("now")));
  assert.equal(await page.textContent("#status"), "Live", "the page goes on");
  await until("the tile", async () => /2 block an event loop/.test((await tiles(page))["In flight"][1]));
  assert.deepEqual(await violations(page), []);
  await Promise.all(reports);
  await until("the end", async () => (await now()).length === 0);
  const after = await top();
  assert.ok(after >= before, `what is below does not move up under the reader's mouse, from ${before} to ${after}`);
});

test("the loops' time and the stalls are counted by endpoint", async () => {
  const isComplete = (row) => row.Endpoint.trim() === "/report" && Number(row.Stalls) >= BLOCKING && number(row["Time on loops"]) >= 2 * BLOCKING;
  const report = await until("all stalls", async () => (await rows(page, "loops")).find(isComplete));
  assert.ok(number(report["Each request"]) >= 2, report["Each request"]);
  assert.match(report["Of all workers ↓"] ?? report["Of all workers"], /%$/);
});

test("a slow client is shown, with what was sent to it", async () => {
  const leave = await shop.download();
  const row = await until("the download", async () => (await now()).find(({ Doing }) => Doing === "sends the answer"));
  assert.equal(row.Endpoint, "GET /download");
  assert.ok(number(row.Sent) > 0, row.Sent);
  leave();
  await until("the end", async () => (await now()).length === 0);
});

test("a request that waits for a lock is shown, with who holds it", async () => {
  const payment = shop.get("/orders/7/payment", "POST");
  await until("the payment", async () => (await rows(page, "pool")).some(({ Doing }) => /^idle in transaction/.test(Doing)));
  const note = shop.get("/orders/8/note", "PUT");
  const row = await until("the wait", async () => (await rows(page, "pool")).find(({ Connection }) => Connection === "waits for a lock"));
  assert.equal(row.Endpoint, "PUT /orders/{id}/note");
  assert.match(row.Doing, /^PUT \/orders\/\{id\}\/note waits for a lock held by POST \/orders\/\{id\}\/payment, idle in transaction for \d+(\.\d)? s$/);
  assert.match(row.Statement, /^UPDATE/);
  assert.match(await heading("pool"), /1 of them waits for a lock: 1 x because of POST \/orders\/\{id\}\/payment \(idle in transaction for/);
  assert.deepEqual(await violations(page), []);
  assert.deepEqual([await payment, await note], [200, 200]);
  await until("the end", async () => (await rows(page, "pool")).length === 0);
});

test("leaked connections are shown with their holders, and with those that wait", async () => {
  assert.equal(await page.textContent("section:has(#pool) .empty"), "Nobody holds a connection.");
  for (let i = 0; i < 3; i++) assert.equal(await shop.get("/import", "POST"), 200);
  shop.get("/orders").catch(() => {});
  const list = await until("the one that waits", async () => ((found) => found.length === 4 && found)(await rows(page, "pool")));
  const of = (endpoint) => list.filter(({ Endpoint }) => Endpoint === endpoint);
  for (const held of of("POST /import")) {
    assert.equal(held.Connection, "holds one");
    assert.match(held.Doing, /^idle in transaction, /);
    assert.match(held["Taken at"], /why\.rs:\d+/);
  }
  assert.equal(of("POST /import").length, 3);
  assert.deepEqual(of("GET /orders").map(({ Connection }) => Connection), ["waits"]);
  assert.match(await heading("pool"), /3 of 3 connections: 3 x POST \/import \(.*idle in transaction\); 1 wait/);
  assert.deepEqual(await violations(page), []);
});

test("where the endpoints do not answer, it says so, and of when its rows are", async () => {
  // The reason has several lines here.
  await page.setViewportSize({ width: 360, height: 900 });
  // As if the connection were that of a worker that is stuck.
  await page.route(/ops\/requests$/, () => {});
  await until("the reason", async () => /No answer to ops\/requests.*Below is the state of \d\d:\d\d:\d\d/.test(await heading("now")));
  const before = await top();
  await page.unroute(/ops\/requests$/);
  await until("the return", async () => /\d in flight/.test(await heading("now")));
  const after = await top();
  assert.ok(after >= before, `what is below does not move up under the reader's mouse, from ${before} to ${after}`);
  await page.route(/ops\/requests$/, (route) => route.fulfill({ status: 403, body: "no" }));
  await until("the status", async () => /The server answers ops\/requests with 403/.test(await heading("now")));
  await page.unroute(/ops\/requests$/);
});
