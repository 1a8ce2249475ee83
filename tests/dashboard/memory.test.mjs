// The heap of the page stays small: ten minutes of live data, played faster, after an hour of history. Meanwhile it lists
// requests in flight, and its reader opens one timeline after the other.

import assert from "node:assert/strict";
import { test } from "node:test";

import { OPS } from "./ops.mjs";
import { Replay, busy } from "./replay.mjs";
import { Server, launch, open, until } from "./support.mjs";

const START = 1_700_000_000;
const LIVE = 600;
const TIMELINES = 50;

test("the heap stays under 60 MB after ten minutes of live data", async (t) => {
  const [server, browser] = [await Server.start(), await launch()];
  const routes = Array.from({ length: 20 }, (_, i) => `GET /endpoint/${i}`);
  const ticks = Array.from({ length: 3600 }, (_, i) => busy(START + i, routes));
  const replay = await Replay.start(server, { routes, ticks, ops: OPS });
  t.after(async () => {
    await browser.close();
    replay.stop();
    await server.remove();
  });
  const pages = await Promise.all([5, 60].map((window) => open(browser, `${replay.url}/dashboard?window=${window}`)));
  const read = async (page) => {
    for (let i = 0; i < TIMELINES; i++) {
      await page.click("#kept a >> nth=0");
      await page.waitForSelector("#request[open] .track");
      await page.keyboard.press("Escape");
    }
  };
  const reading = Promise.all(pages.map(read));
  for (let i = 0; i < LIVE; i++) {
    replay.push(busy(START + ticks.length, routes));
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await reading;
  const last = ticks.at(-1).time;
  for (const page of pages) {
    await until("the last tick", async () => Number(await page.getAttribute("#chart-cpu .plot", "aria-valuemax")) >= last);
    const devtools = await page.context().newCDPSession(page);
    await devtools.send("HeapProfiler.collectGarbage");
    const { usedSize } = await devtools.send("Runtime.getHeapUsage");
    const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
    assert.ok(nodes < 12_000, `${nodes} elements`);
    t.diagnostic(`heap: ${(usedSize / 1e6).toFixed(1)} MB`);
    assert.ok(usedSize < 60e6, `${usedSize} bytes`);
    assert.deepEqual(page.faults, []);
  }
});
