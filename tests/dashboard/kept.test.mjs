// Kept requests on the page: from a slow endpoint, a statement or a trace to the waterfall of a request.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { Shop, address, launch, number, open, rows, until, violations } from "./support.mjs";

const TRACE = "0af7651916cd43dd8448eb211c80319c";

let shop, browser, page;
before(async () => {
  [shop, browser] = [await Shop.start(), await launch()];
  for (let i = 0; i < 3; i++) await Promise.all(["/orders", "/search/99", "/customers/7"].map((path) => shop.get(path)));
  await shop.get("/search/7", "GET", { traceparent: `00-${TRACE}-00f067aa0ba902b7-01` });
});
after(async () => {
  await browser.close();
  await shop.stop();
});
beforeEach(async () => {
  page = await open(browser, `${shop.ops}/dashboard`);
  await until("the traffic", async () => (await rows(page, "endpoints")).length === 3 && (await rows(page, "kept")).length > 0);
});
afterEach(async () => {
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

/** The open timeline: its heading, its facts, and the first three cells of each row of its tables. */
async function timeline() {
  await page.waitForSelector("#request[open] .track");
  return page.$eval("#request", (dialog) => ({
    title: dialog.querySelector("h2").textContent,
    facts: dialog.querySelector("p").textContent,
    tables: [...dialog.querySelectorAll("table")].map((table) => [...table.tBodies[0].rows].map((row) => [...row.cells].slice(0, 3).map((cell) => cell.textContent))),
  }));
}

/** Checks that it is the timeline of a search, with the times that the server has of it. */
async function assertIsSearch({ title, facts, tables: [times, phases] }) {
  assert.equal(title, "GET /search/{text}");
  const [, explained] = /([\d.]+) % explained/.exec(facts);
  assert.ok(Number(explained) >= 95, facts);
  const [[, total], [kind, queried]] = times;
  assert.equal(kind, "query");
  // How much of its time the query takes depends on what else the machine does.
  const request = await (await fetch(`${shop.ops}/ops/requests/${new URL(await address(page)).searchParams.get("request")}`)).json();
  for (const [shown, real] of [[total, request.seconds], [queried, request.times.find(({ kind }) => kind === "query").seconds]]) {
    assert.ok(Math.abs(number(shown) / real - 1) < 0.01, `${shown} is shown for ${real} s`);
  }
  const query = phases.find(([name]) => name.startsWith("query"));
  assert.match(query[0], /^query: SELECT .*LIKE \?/);
  assert.ok(number(query[1]) >= 0 && Math.abs(number(query[2]) / number(queried) - 1) < 0.01, query.join());
}

const kept = () => rows(page, "kept");
const ofSearch = (list) => list.length > 0 && list.every(({ Endpoint }) => Endpoint === "GET /search/{text}");

test("two clicks lead from an endpoint to the waterfall of its slowest request", async () => {
  await page.click("#endpoints button.endpoint[title='GET /search/{text}']");
  await until("its requests", async () => ofSearch(await kept()));
  const durations = (await kept()).map((row) => number(row["Duration ↓"] ?? row.Duration));
  assert.deepEqual(durations, [...durations].sort((a, b) => b - a), "the slowest first");
  await page.click("#kept a >> nth=0");
  const shown = await timeline();
  await assertIsSearch(shown);
  assert.equal(number(shown.tables[0][0][1]), durations[0]);
  assert.deepEqual(await violations(page), []);
});

test("the keyboard alone leads there and back", async () => {
  const tabTo = async (selector) => {
    for (let i = 0; i < 300; i++) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((selector) => document.activeElement.matches(selector), selector)) return;
    }
    assert.fail(`Tab does not reach ${selector}`);
  };
  await tabTo("#endpoints button.endpoint[title='GET /search/{text}']");
  await page.keyboard.press("Enter");
  await until("its requests", async () => ofSearch(await kept()));
  await tabTo("#kept a");
  await page.keyboard.press("Enter");
  await assertIsSearch(await timeline());
  await tabTo("#close");
  await tabTo("#request .scroll");
  await page.keyboard.press("Escape");
  await page.waitForSelector("#request:not([open])", { state: "attached" });
  assert.ok(await page.evaluate(() => document.activeElement.matches("#kept a")), "the focus is where it was");
  await until("its address", async () => new URL(await address(page)).searchParams.get("request") === null);
});

test("a timeline has a link, and the way back closes it", async () => {
  await page.click("#kept a >> nth=0");
  const shown = await timeline();
  const other = await open(browser, await address(page));
  await other.waitForSelector("#request[open] .track");
  assert.equal(await other.textContent("#request h2"), shown.title);
  await other.context().close();
  await page.goBack();
  await page.waitForSelector("#request:not([open])", { state: "attached" });
  await page.goForward();
  assert.deepEqual(await timeline(), shown);
});

test("a timeline that is asked for while the dialog closes is shown", async () => {
  await page.click("#kept a >> nth=0");
  const shown = await timeline();
  await page.evaluate(() => {
    const visit = (url) => {
      history.replaceState(null, "", url);
      dispatchEvent(new PopStateEvent("popstate"));
    };
    const there = location.href;
    visit("?");
    visit(there);
  });
  assert.deepEqual(await timeline(), shown);
});

test("a statement leads to the requests that ran it", async () => {
  const shape = (await rows(page, "statements")).findIndex(({ Statement }) => /LIKE/.test(Statement));
  await page.click(`#statements tbody tr >> nth=${shape} >> text=kept`);
  await until("its requests", async () => ofSearch(await kept()));
  assert.match(await page.textContent("section:has(#kept) .bar"), /that ran SELECT .*LIKE \?/);
  await page.click("text=Show all");
  await until("all requests", async () => new Set((await kept()).map(({ Endpoint }) => Endpoint)).size === 3);
});

test("the id of a trace leads to its timeline", async () => {
  await page.fill("section:has(#kept) input", TRACE.toUpperCase());
  await page.keyboard.press("Enter");
  await until("its request", async () => ofSearch(await kept()) && (await kept()).length === 1);
  assert.match((await kept())[0]["Kept because"], /its trace is sampled/);
  const other = await open(browser, `${shop.ops}/dashboard?request=${TRACE}`);
  await other.waitForSelector("#request[open] .track");
  assert.match(await other.textContent("#request .bar p"), new RegExp(`trace ${TRACE}`));
  await other.context().close();
});

test("a request that is not kept is named", async () => {
  await page.goto(`${shop.ops}/dashboard?request=0000000000000001`);
  await until("the reason", async () => (await page.textContent("#request[open] .bar p")).includes("0000000000000001"));
  page.faults = page.faults.filter((fault) => !/404/.test(fault));
});
