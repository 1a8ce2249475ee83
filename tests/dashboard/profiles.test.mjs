// The page of the profiles: it takes a profile, shows its graph under the policies of both, and compares two of the heap.

import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mkdtempSync } from "node:fs";
import { after, before, test } from "node:test";

import { Server, launch, visit } from "./support.mjs";

let server, browser;
before(async () => {
  const directory = mkdtempSync(join(tmpdir(), "vitals-profiles-"));
  server = await Server.start("127.0.0.1:0", directory, ["--profiling"]);
  browser = await launch();
});
after(async () => {
  await browser.close();
  await server.remove();
});

/** Sends requests until `stop`. */
const load = async (stop) => {
  while (!stop.now) await server.request("GET", "/data?limit=100");
};

test("a profile of the processor is taken, shown, searched and zoomed", async (t) => {
  const probe = await server.request("GET", "/ops/profile/cpu?seconds=1&format=folded");
  if (probe.status === 503) return t.skip(probe.json.detail);
  for (let number = 0; number < 50; number += 1) {
    await server.request("POST", "/data", { name: "Ada", email: "ada@example.org", message: "hunter2" });
  }
  const page = await visit(browser, `${server.url}/ops/profile`);
  const stop = { now: false };
  const loads = [load(stop), load(stop)];
  await page.fill("#seconds", "4");
  await page.fill("#hz", "999");
  await page.click("#start");
  await page.waitForSelector("#progress:not([hidden])");
  await page.waitForSelector("#graph:not([hidden])");
  stop.now = true;
  await Promise.all(loads);
  const graph = page.frameLocator("#graph");
  await graph.locator("g[data-w]").first().waitFor({ state: "attached" });
  const endpoint = graph.locator("g[data-d='1']").filter({ hasText: "/data" }).first();
  await endpoint.waitFor({ state: "attached" });
  // The script runs under the policy of the graph.
  await graph.locator("#search").fill("/data");
  assert.match(await graph.locator("#reading").textContent(), /^\d+\.\d % match$/);
  assert.ok(await graph.locator("g.hit").count() > 0);
  await endpoint.locator("rect").click();
  assert.ok(Number(await endpoint.locator("rect").getAttribute("width")) > 1179);
  // The keys do the same: out, down from the root to an endpoint, to its neighbours, and in.
  await graph.locator("g[data-d='0']").focus();
  await page.keyboard.press("Escape");
  await page.keyboard.press("ArrowDown");
  const depth = () => graph.locator("g:focus").getAttribute("data-d");
  assert.equal(await depth(), "1");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Enter");
  assert.ok(Number(await graph.locator("g:focus rect").getAttribute("width")) > 1179);
  await page.keyboard.press("ArrowUp");
  assert.equal(await depth(), "0");
  // So does its style.
  const fill = await graph.locator("g.hit rect").first().evaluate((rect) => getComputedStyle(rect).fill);
  assert.ok(["rgb(194, 51, 127)", "rgb(255, 122, 184)"].includes(fill), fill);
  assert.ok(await page.locator("#kept tr").count() >= 2);
  assert.doesNotMatch(await graph.locator("svg").first().textContent(), /hunter2/);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("two profiles of the heap are taken, and the second is shown as a difference", async () => {
  const page = await visit(browser, `${server.url}/ops/profile`);
  await page.selectOption("#kind", "heap");
  await page.click("#start");
  await page.waitForSelector("#graph:not([hidden])");
  await page.locator("#since option").nth(1).waitFor({ state: "attached" });
  await page.selectOption("#since", { index: 1 });
  await page.click("#start");
  const head = page.frameLocator("#graph").locator(".head");
  await head.filter({ hasText: "Growth of live allocations" }).waitFor();
  assert.equal(await page.textContent("#message"), "");
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("an answer that is no profile is shown as a sentence", async () => {
  const page = await visit(browser, `${server.url}/ops/profile`);
  const running = server.request("GET", "/ops/profile/cpu?seconds=10&format=folded");
  await page.fill("#seconds", "1");
  // Long enough that the other profile has begun, and much shorter than it takes.
  await new Promise((resolve) => setTimeout(resolve, 2000));
  await page.click("#start");
  await page.locator("#message", { hasText: /one at a time|perf_event_open/ }).waitFor();
  await running;
  await page.context().close();
});

test("the live page leads to the profiles, and shows the filter of the log while it is changed", async () => {
  const page = await visit(browser, `${server.url}/dashboard`);
  await page.waitForSelector("#profiles:not([hidden])");
  const changed = await server.request("PUT", "/ops/log?filter=info,h2=off&seconds=600");
  assert.equal(changed.status, 200);
  await page.locator("#log", { hasText: /^Logging by info,h2=off until \d/ }).waitFor();
  await page.click("#profiles");
  await page.waitForSelector("#start");
  assert.deepEqual(page.faults, []);
  await page.context().close();
});
