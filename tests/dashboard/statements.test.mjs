// Statements on the page: what chooses among them, their order, one of them with its last hour, and the reset.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { Shop, address, launch, number, open, rows, until, violations } from "./support.mjs";

let shop, browser, page;
before(async () => {
  [shop, browser] = [await Shop.start(), await launch()];
  for (let i = 0; i < 3; i++) await Promise.all(["/orders", "/search/99", "/customers/7"].map((path) => shop.get(path)));
});
after(async () => {
  await browser.close();
  await shop.stop();
});
beforeEach(async () => {
  page = await open(browser, `${shop.ops}/dashboard`);
  await until("the statements", async () => (await statements()).length >= 4);
});
afterEach(async () => {
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

const statements = () => rows(page, "statements");
const shapes = async () => (await statements()).map(({ Statement }) => Statement);
const every = async (expected) => {
  const found = await shapes();
  return found.length > 0 && found.every((shape) => expected.test(shape));
};
const section = "section:has(#statements)";

/** The open statement: its facts, its text, its endpoints, its charts in words, and the kept requests that ran it. */
async function statement() {
  await page.waitForSelector("#request[open] .chart");
  return page.$eval("#request", (dialog) => ({
    facts: dialog.querySelector(".bar p").textContent,
    text: dialog.querySelector("pre").textContent,
    endpoints: [...dialog.querySelectorAll(".scroll > p a")].map((link) => link.textContent),
    charts: [...dialog.querySelectorAll(".summary")].map((summary) => summary.textContent),
    kept: [...dialog.querySelectorAll("tbody tr")].map((row) => row.lastChild.textContent),
  }));
}

test("operation, text and endpoint choose among the statements, and the URL keeps them", async () => {
  await page.selectOption(`${section} select`, "other");
  await until("no selects", () => every(/^(?!SELECT)/));
  await page.selectOption(`${section} select`, "");
  await page.fill(`${section} input`, "LiKe ?");
  await page.keyboard.press("Enter");
  await until("the search", () => every(/LIKE/));
  const other = await open(browser, await address(page));
  await until("the same", async () => (await rows(other, "statements")).length === 1);
  assert.equal(await other.inputValue(`${section} input`), "LiKe ?");
  await other.context().close();
  await page.fill(`${section} input`, "");
  await page.keyboard.press("Enter");
  await page.click("#endpoints button.endpoint[title='GET /customers/{id}']");
  await until("its statement", async () => (await statements()).length === 1 && (await every(/customers/)));
  assert.match(await page.textContent(`${section} .bar`), /of GET \/customers\/\{id\}/);
  await page.goBack();
  await until("all again", async () => (await statements()).length >= 4);
});

test("the order is that of the server's figures", async () => {
  const figures = async (heading) => (await statements()).map((row) => number(row[heading]));
  for (const [heading, key] of [["Calls", "calls"], ["Mean", "mean_seconds"]]) {
    await page.click(`#statements thead button >> text="${heading}"`);
    const answer = await fetch(`${shop.ops}/ops/statements?sort=${key.split("_")[0]}`);
    const expected = (await answer.json()).statements.map((one) => one[key]);
    await until("the order", async () => {
      const shown = await figures(heading);
      return shown.length === expected.length && shown.every((figure, i) => Math.abs(figure / expected[i] - 1) < 0.01);
    });
  }
});

test("one statement has its hour, its endpoints and its requests, and a request leads back to it", async () => {
  await page.click("#statements a >> text=/LIKE/");
  const shown = await statement();
  assert.match(shown.text, /^SELECT .* LIKE \?/);
  assert.match(shown.facts, /^select · pool default · 3 calls · total .* · mean .* · p95 .* · since 20/);
  assert.deepEqual(shown.endpoints, ["GET /search/{text}"]);
  assert.match(shown.charts[0], /^Calls in each minute, .* highest [123]\.$/);
  assert.match(shown.charts[1], /^p95 of each minute, .* highest .*s\.$/);
  assert.ok(shown.kept.length > 0 && shown.kept.every((kept) => kept.startsWith("GET /search/{text}, 200: ")), shown.kept.join());
  assert.deepEqual(await violations(page), []);
  const other = await open(browser, await address(page));
  await other.waitForSelector("#request[open] .chart");
  await other.context().close();
  await page.click("#request tbody a >> nth=0");
  await page.waitForSelector("#request[open] .track");
  await page.keyboard.press("Escape");
  assert.deepEqual(await statement(), shown);
  await page.click("#request .scroll > p a");
  await page.waitForSelector("#request:not([open])", { state: "attached" });
  await until("its endpoint", async () => (await page.inputValue("#endpoint")) === "GET /search/{text}");
});

test("the keyboard alone leads to a statement, along its hour and back", async () => {
  const tabTo = async (selector) => {
    for (let i = 0; i < 300; i++) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((selector) => document.activeElement.matches(selector), selector)) return;
    }
    assert.fail(`Tab does not reach ${selector}`);
  };
  await tabTo(`${section} select`);
  await tabTo(`${section} input`);
  await tabTo("#statements a[href*=about]");
  await page.keyboard.press("Enter");
  await statement();
  await tabTo("#chart-statement-calls .plot");
  await page.keyboard.press("ArrowLeft");
  await page.waitForSelector("#chart-statement-p95 .cursor:not([hidden])");
  await page.keyboard.press("Escape");
  await page.waitForSelector("#request:not([open])", { state: "attached" });
  assert.ok(await page.evaluate(() => document.activeElement.matches("#statements a[href*=about]")), "the focus is where it was");
});

test("a statement that is not kept is named", async () => {
  await page.goto(`${shop.ops}/dashboard?about=4000000000`);
  await until("the reason", async () => (await page.textContent("#request[open] .bar p")).includes("4000000000"));
  page.faults = page.faults.filter((fault) => !/404/.test(fault));
});

test("a reset counts from then on, and the metrics keep their counts", async () => {
  const total = async () => (await (await fetch(`${shop.ops}/metrics`)).text()).match(/^db_queries_total\{operation="select"\} (\d+)/m)?.[1];
  const before = await total();
  assert.ok(Number(before) > 0);
  await page.click("#statements a >> text=/LIKE/");
  const { charts } = await statement();
  await page.click("#close");
  await page.click(`${section} button >> text=Reset`);
  await until("no rows", async () => (await statements()).length === 0);
  await shop.get("/search/5");
  await until("a row", async () => (await statements()).length === 1);
  assert.equal(number((await statements())[0].Calls), 1);
  await page.click("#statements a >> text=/LIKE/");
  const shown = await statement();
  assert.match(shown.facts, / · 1 call · /);
  assert.match(charts[0], /highest [123]\.$/);
  assert.match(shown.charts[0], /highest [1234]\.$/, "the hour stays");
  assert.ok(Number(await total()) > Number(before));
});
