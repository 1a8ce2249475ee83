// Measures the cost of the page: its first paint, and the processor time that twenty open pages cost the server. It needs an
// idle machine. No test depends on it.

import { readFileSync, readdirSync } from "node:fs";

import { Server, launch } from "./support.mjs";

const LOADS = 15;
const STREAMS = 20;
const SECONDS = 60;

/** The unit of processor time in /proc. */
const TICKS_PER_SECOND = 100;

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Processor seconds of a process or a thread, by its directory in /proc. */
function used(directory) {
  const [, ...fields] = readFileSync(`${directory}/stat`, "utf8").split(") ").at(-1).split(" ");
  return (Number(fields[10]) + Number(fields[11])) / TICKS_PER_SECOND;
}

function samplers({ process: { pid } }) {
  const threads = readdirSync(`/proc/${pid}/task`).map((task) => `/proc/${pid}/task/${task}`);
  return threads.filter((thread) => readFileSync(`${thread}/comm`, "utf8").trim() === "dashboard");
}

/** The shares of a core that the server and its sampler take. */
async function share(server) {
  const of = () => [`/proc/${server.process.pid}`, ...samplers(server)].map(used);
  const before = of();
  await pause(SECONDS);
  return of().map((now, i) => `${(((now - before[i]) / SECONDS) * 100).toFixed(2)} %`);
}

async function paints(browser, server) {
  const found = [];
  for (let i = 0; i < LOADS; i++) {
    const context = await browser.newContext({ viewport: { width: 1440, height: 1000 } });
    const page = await context.newPage();
    await page.goto(`${server.url}/dashboard`);
    await page.waitForFunction(() => document.querySelector("#tiles strong")?.textContent.match(/\d/));
    found.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
    await context.close();
  }
  found.sort((a, b) => a - b);
  return `median ${found[LOADS >> 1].toFixed(0)} ms, least ${found[0].toFixed(0)} ms, most ${found.at(-1).toFixed(0)} ms`;
}

const server = await Server.start();
const browser = await launch();
console.log(`first paint of ${LOADS} loads without a cache: ${await paints(browser, server)}`);
await browser.close();

const say = (what, [all, sampler]) => console.log(`${what}: ${all} of a core, of which its sampler ${sampler}`);
console.log(`samplers: ${samplers(server).length}`);
say("no page open", await share(server));
const abort = new AbortController();
const streams = Array.from({ length: STREAMS }, async () => {
  const { body } = await fetch(`${server.url}/dashboard/stream`, { signal: abort.signal });
  for await (const _ of body);
});
const ended = Promise.allSettled(streams);
say(`${STREAMS} pages open`, await share(server));
let sent = 0;
const load = setInterval(() => server.request("GET", `/data/${(sent += 1)}`).catch(() => {}), 20);
say(`${STREAMS} pages open, 50 requests a second`, await share(server));
clearInterval(load);
abort.abort();
await ended;
await server.remove();
