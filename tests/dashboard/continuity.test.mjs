// The page after an interruption: a restart of the server, or a tab that slept.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";

import { Server, lastingAddress, launch, newContext, open, table, until } from "./support.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const times = (points) => points.map((point) => Number(point["epoch (seconds)"]));

// The tests mostly wait, so they run concurrently.
describe("continuity", { concurrency: true }, () => {

test("after a restart of the server the page goes on, keeps what it had, and shows the gap", async (t) => {
  let server = await Server.start(await lastingAddress());
  t.after(() => server.remove());
  await server.traffic(10);
  const page = await open(browser, `${server.url}/dashboard`);
  await until("some ticks", async () => (await table(page, "throughput")).length >= 3);
  const stopping = Date.now();
  assert.equal(await server.stop(), 0);
  // Half of the time that it would wait for an answer that does not end.
  assert.ok(Date.now() - stopping < 15_000, "an open page does not hold the server back");
  await until("the loss", async () => (await page.textContent("#status")) === "Reconnecting");
  // Long enough to be seen as a gap.
  await pause(3);
  const kept = times(await table(page, "throughput"));
  server = await Server.start(server.authority, server.directory);
  await until("the return", async () => (await page.textContent("#status")) === "Live");
  const shown = await until("new ticks", async () => {
    const now = times(await table(page, "throughput"));
    return now.length >= kept.length + 3 && now;
  });
  assert.deepEqual(shown.slice(0, kept.length), kept);
  assert.ok(shown[kept.length] - shown[kept.length - 1] > 2, "the time without a server is missing");
  assert.match(await page.textContent("#instance"), new RegExp(`process ${server.process.pid},`));
  const requests = (await table(page, "throughput")).filter((point) => Number(point["2xx (per second)"]) > 0);
  assert.ok(requests.length > 0, "the requests before are still there");
  const unexpected = page.faults.filter((fault) => !/ERR_CONNECTION_REFUSED|INCOMPLETE_CHUNKED|CONNECTION_RESET|dashboard\/stream|\/ops(\/|$)/.test(fault));
  assert.deepEqual(unexpected, []);
});

test("a tab that slept catches up when it wakes", async (t) => {
  const server = await Server.start();
  t.after(() => server.remove());
  const page = await open(browser, `${server.url}/dashboard`);
  await until("some ticks", async () => (await table(page, "throughput")).length >= 2);
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
  await server.traffic(5);
  await pause(4);
  await devtools.send("Page.setWebLifecycleState", { state: "active" });
  await until("the traffic of the night", async () => (await page.textContent("#endpoints")).includes("/data"));
  const woken = Date.now() / 1000;
  await until("the present", async () => times(await table(page, "throughput")).at(-1) > woken);
  const shown = times(await table(page, "throughput"));
  const taken = (await server.ticks(shown[0] - 1)).map(({ time }) => time);
  assert.deepEqual(shown, taken.slice(0, shown.length), "no tick is missing");
});

test("a stream resumes after the last event that came", async (t) => {
  const server = await Server.start();
  t.after(() => server.remove());
  const ticks = async (headers, count) => {
    const answer = await fetch(`${server.url}/dashboard/stream`, { headers });
    assert.equal(answer.headers.get("content-type"), "text/event-stream");
    const found = [];
    let text = "";
    for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      found.splice(0, Infinity, ...[...text.matchAll(/^id: (\d+)\n/gm)].map(([, id]) => Number(id)));
      if (found.length >= count) break;
    }
    return found;
  };
  const first = await ticks({}, 2);
  await pause(2);
  const resumed = await ticks({ "last-event-id": String(first[0]) }, 3);
  const taken = (await server.ticks(first[0])).map(({ time }) => time);
  assert.deepEqual(resumed.slice(0, 3), taken.slice(0, 3));
});

test("twenty tabs of one browser share one stream, and go on when one of them is closed", async (t) => {
  const server = await Server.start();
  const context = await newContext(browser);
  t.after(async () => {
    await context.close();
    await server.remove();
  });
  const tabs = [];
  for (let i = 0; i < 20; i++) {
    const tab = await context.newPage();
    await tab.goto(`${server.url}/dashboard`);
    tabs.push(tab);
  }
  for (const tab of tabs) await until("the stream", async () => (await tab.textContent("#status")) === "Live");
  const streams = async () => (await server.scrape()).get('http_streams_active{endpoint="/dashboard/stream"}');
  await until("one stream", async () => (await streams()) === 1);
  await tabs.shift().close();
  for (const tab of [tabs[0], tabs.at(-1)]) {
    const before = times(await table(tab, "cpu")).at(-1);
    await until("the next tick", async () => times(await table(tab, "cpu")).at(-1) > before);
  }
  await context.close();
  await until("no stream", async () => (await streams()) === 0);
});

test("many streams share one sampler, and count nowhere in the service's numbers", async (t) => {
  const server = await Server.start();
  t.after(() => server.remove());
  const streams = await Promise.all(Array.from({ length: 20 }, () => fetch(`${server.url}/dashboard/stream`)));
  const ticks = streams.map(follow);
  await until("a tick of each", () => ticks.every((found) => found.size > 0));
  // The streams do not all start within one second. All of them get the newest of the first ticks.
  const newest = Math.max(...ticks.map((found) => Math.min(...found.keys())));
  await until("the same tick of each", () => ticks.every((found) => found.has(newest)));
  const texts = new Set(ticks.map((found) => found.get(newest)));
  assert.equal(texts.size, 1, "all get the same tick");
  assert.equal(samplers(server), 1);
  const tick = JSON.parse([...texts][0]);
  assert.equal(tick.levels.in_flight, 0);
  assert.deepEqual(tick.routes, []);
  for (const [sample, value] of await server.scrape()) {
    const slow = /^http_request_duration_seconds_count\{.*endpoint="\/dashboard\/stream"/.test(sample);
    assert.ok(!slow || value === 0, "a stream is not a slow request");
  }
});

});

/** The ticks of a stream, by time, as sent. It grows until the stream ends. */
function follow({ body }) {
  const ticks = new Map();
  const read = async () => {
    let text = "";
    for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      for (const [, id, data] of text.matchAll(/event: tick\nid: (\d+)\ndata: (.*)\n\n/g)) ticks.set(Number(id), data);
    }
  };
  // It fails when the server is killed.
  read().catch(() => {});
  return ticks;
}

/** The sampler threads of the server. */
function samplers({ process: { pid } }) {
  const names = readdirSync(`/proc/${pid}/task`).map((task) => readFileSync(`/proc/${pid}/task/${task}/comm`, "utf8").trim());
  return names.filter((name) => name === "dashboard").length;
}
