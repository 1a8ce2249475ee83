// Takes pictures of the live page under load, light and dark, wide and narrow, into the given directory.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { Server, launch, open } from "./support.mjs";

const SECONDS = 310;
const [directory] = process.argv.slice(2);

const server = await Server.start(undefined, undefined, ["--pool-size", "3", "--pool-timeout", "10ms"]);
const browser = await launch();
const ids = [];

async function once(i) {
  const chance = (i * 0.618034) % 1;
  const item = { name: `item ${i}`, email: "ada@example.com", message: "hello" };
  const id = ids[Math.floor(((i * 0.414214) % 1) * ids.length)] ?? 1;
  if (chance < 0.18 || ids.length === 0) {
    const { status, json } = await server.request("POST", "/data", item);
    if (status === 201) ids.push(json.id);
  } else if (chance < 0.66) await server.request("GET", `/data/${id}`);
  else if (chance < 0.9) await server.request("GET", "/data?limit=25");
  else if (chance < 0.95) await server.request("PUT", `/data/${id}`, item);
  else if (chance < 0.97) await server.request("GET", "/data/999999");
  else if (chance < 0.985) await server.request("POST", "/data", { ...item, email: "nobody" });
  else await server.request("DELETE", `/data/${ids.shift()}`);
}

// The pages are open from the start, because a starting browser would show in the charts.
const pages = [];
for (const colorScheme of ["light", "dark"]) {
  for (const [name, width, height] of [["wide", 1440, 1560], ["narrow", 390, 1900]]) {
    const page = await open(browser, `${server.url}/dashboard`, { colorScheme, viewport: { width, height } });
    pages.push([page, join(directory, `dashboard-${colorScheme}-${name}.png`)]);
  }
}

// A slow wave, and one burst that exhausts the pool.
const started = Date.now();
let [sent, due, before] = [0, 0, 0];
const load = setInterval(() => {
  const second = (Date.now() - started) / 1000;
  const wave = 45 + 20 * Math.sin(second / 30);
  const rush = second > 190 && second < 205 ? 220 : 0;
  due += (wave + rush) * (second - before);
  before = second;
  while (sent < due) once(sent++).catch(() => {});
}, 70);
await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000));

mkdirSync(directory, { recursive: true });
// Four pages that draw at once may keep a small machine busy.
for (const [page, path] of pages) await page.screenshot({ path, timeout: 120_000 });
clearInterval(load);
await browser.close();
await server.remove();
