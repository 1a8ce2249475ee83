// Failed requests on the page: another client breaks or locks the server's database.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { Server, launch, number, open, rows, settled, table, tiles, until } from "./support.mjs";

const PYTHON = process.env.VITALS_PYTHON;
const TRACE = "0af7651916cd43dd8448eb211c80319c";
const ITEM = { name: "item", email: "ada@example.com", message: null };

let server, browser, page;
before(async () => {
  [server, browser] = [await Server.start(), await launch()];
  page = await open(browser, `${server.url}/dashboard`);
});
after(async () => {
  await browser.close();
  await server.remove();
});

const database = () => join(server.directory, "vitals.db");

/** Runs statements on the server's database, without the server. */
function execute(...statements) {
  const code = "import sqlite3, sys\nfor s in sys.argv[2:]: sqlite3.connect(sys.argv[1], isolation_level=None).execute(s)";
  return promisify(execFile)(PYTHON, ["-c", code, database(), ...statements]);
}

/** Takes the write lock of the server's database. Returns a function that releases it. */
async function hold() {
  const code = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()";
  const holder = spawn(PYTHON, ["-c", code, database()], { stdio: ["pipe", "pipe", "inherit"] });
  await new Promise((resolve) => holder.stdout.once("data", resolve));
  return () => holder.stdin.end();
}

test("a request that a broken database failed is in the latest errors, with its details", async () => {
  await execute("ALTER TABLE items RENAME TO elsewhere");
  const sent = Date.now();
  const failed = await fetch(`${server.url}/data/7?secret=hunter2`, { headers: { traceparent: `00-${TRACE}-00f067aa0ba902b7-01` } });
  const answered = Date.now();
  assert.equal(failed.status, 503);
  const [row] = await until("the error", async () => ((shown) => shown.length > 0 && shown)(await rows(page, "errors")));
  await execute("ALTER TABLE elsewhere RENAME TO items");
  assert.equal((await server.request("GET", "/data/7")).status, 404);

  assert.match(row["Time ↓"] ?? row.Time, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
  const cause = await until("its cause", async () => (await rows(page, "causes"))[0]);
  assert.equal(cause.Endpoint, "GET /data/{item_id}");
  assert.equal(cause.Requests, "1");
  assert.match(cause.Cause, /^error; /);
  await page.click("#causes a");
  await page.waitForSelector("#request[open] .track");
  assert.ok((await page.textContent("#request .bar p")).includes(cause.Cause));
  await page.keyboard.press("Escape");
  const age = new Date(row.Time).getTime() - sent;
  assert.ok(age > -10_000 && age < answered - sent + 10_000, `${row.Time} is when it failed`);
  assert.equal(row.Endpoint, "GET /data/{item_id}");
  assert.equal(row.Status, "503");
  assert.equal(row.Queries, "1");
  assert.equal(row.Trace, TRACE);
  assert.ok(number(row.Duration) > 0 && number(row["In database"]) <= number(row.Duration));
  assert.ok(!(await page.content()).includes("hunter2"), "no query string comes as far as the page");
});

test("a request that waited for a held database is slow, and failed", async () => {
  const release = await hold();
  const refused = await server.request("POST", "/data", ITEM);
  release();
  assert.equal(refused.status, 503);
  for (const list of ["slowest", "errors"]) {
    const row = await until("the refusal", async () => (await rows(page, list)).find(({ Endpoint, Status }) => Endpoint === "POST /data" && Status === "503"));
    assert.ok(number(row.Duration) > 1, `${row.Duration} in ${list}`);
  }
  await until("an answer", async () => (await server.request("POST", "/data", ITEM)).status === 201);
});

test("the errors are in the vital signs, the endpoints and the throughput", async () => {
  const endpoint = await until("both requests", async () => (await rows(page, "endpoints")).find(({ Endpoint, Requests }) => Endpoint.endsWith("{item_id}") && Requests === "2"));
  assert.equal(endpoint.Errors, "50%");
  assert.equal(await page.getAttribute("#endpoints td.alarm >> nth=0", "class"), "number alarm");
  let [total, bad] = [0, 0];
  for (const [sample, value] of await server.scrape()) {
    const [, path, status] = /^http_requests_total\{.*endpoint="([^"]*)".*http_status="(\d+)"/.exec(sample) ?? [];
    if (!path?.startsWith("/data")) continue;
    total += value;
    if (status >= 500) bad += value;
  }
  await until("all requests", async () => (await rows(page, "endpoints")).reduce((sum, row) => sum + number(row.Requests), 0) === total);
  await page.click("#pause");
  await settled(page);
  const shown = number((await tiles(page)).Errors[0]);
  assert.ok(Math.abs(shown - bad / total) <= (bad / total) * 0.02, `${shown} is shown for ${bad} of ${total}`);
  assert.ok((await page.locator("#tiles .alarm").allTextContents()).some((text) => text.startsWith("Errors")));
  assert.ok((await table(page, "throughput")).some((point) => Number(point["5xx (per second)"]) > 0));
});
