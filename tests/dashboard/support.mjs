// Shared by the browser tests: a real server, a real browser, the scrape, and waiting with a bound. Contains no tests.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:http";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const BINARY = process.env.VITALS_BINARY;
const CHROMIUM = process.env.VITALS_CHROMIUM ?? "/usr/bin/chromium";

/**
 * An address on which a server can start again later. Its port is below those that Linux gives to connections and to servers
 * that ask for any: one of them could take it meanwhile.
 */
export async function lastingAddress() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const probe = createServer();
    const isFree = await new Promise((resolve) => {
      probe.once("error", () => resolve(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
    });
    if (isFree) return `127.0.0.1:${port}`;
  }
}

/** A server on a free port with a fresh database. */
export class Server {
  static async start(listen = "127.0.0.1:0", directory = mkdtempSync(join(tmpdir(), "vitals-dashboard-")), flags = []) {
    const server = new Server();
    server.directory = directory;
    const database = `sqlite://${join(directory, "vitals.db")}`;
    server.process = spawn(BINARY, ["--listen", listen, "--database-url", database, "--log", "warn", ...flags], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { PATH: process.env.PATH },
    });
    server.exited = new Promise((resolve) => server.process.once("exit", resolve));
    for await (const line of createInterface(server.process.stdout)) {
      const found = /^listening on (http:\/\/(.+))$/.exec(line);
      if (found) {
        [, server.url, server.authority] = found;
        server.listened = Date.now() / 1000;
        break;
      }
    }
    if (!server.url) throw new Error("the server did not print its address");
    return server;
  }

  /** Stops the server like a supervisor. The database stays. */
  async stop(signal = "SIGTERM") {
    this.process.kill(signal);
    return this.exited;
  }

  async remove() {
    await this.stop("SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Sends a request. Returns the status and the JSON. */
  async request(method, path, body) {
    const answer = await fetch(this.url + path, {
      method,
      headers: body ? { "content-type": "application/json" } : {},
      body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    return { status: answer.status, json: /json/.test(answer.headers.get("content-type")) ? JSON.parse(text) : text };
  }

  /** The ticks after a time, one by one. */
  async ticks(since) {
    return (await this.request("GET", `/dashboard/history?since=${since}`)).json.ticks;
  }

  /** The scrape in the text format, as `{"name{labels}": value}`. */
  async scrape() {
    const samples = new Map();
    for (const line of (await this.request("GET", "/metrics")).json.split("\n")) {
      const found = /^([^#\s]\S*?(?:\{.*\})?) (\S+)$/.exec(line);
      if (found) samples.set(found[1], Number(found[2]));
    }
    return samples;
  }

  /** Sends known traffic. */
  async traffic(rounds) {
    for (let i = 0; i < rounds; i++) {
      const item = { name: `item ${i}`, email: "ada@example.com", message: null };
      const created = await this.request("POST", "/data", item);
      await Promise.all([
        this.request("GET", `/data/${created.json.id}`),
        this.request("GET", "/data?limit=10"),
        this.request("GET", "/data/999999"),
        this.request("POST", "/data", { ...item, name: "" }),
        this.request("GET", "/nowhere"),
      ]);
    }
  }
}

/** The example `why`: a shop with a fault in each endpoint, and its ops endpoints on a listener of their own. */
export class Shop {
  static async start() {
    const shop = new Shop();
    shop.process = spawn(process.env.VITALS_WHY, ["127.0.0.1:0", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
    shop.exited = new Promise((resolve) => shop.process.once("exit", resolve));
    for await (const line of createInterface(shop.process.stdout)) {
      const [, ops, url] = /^(ops )?listening on (http:.+)$/.exec(line) ?? [];
      if (ops) {
        shop.ops = url;
        break;
      }
      shop.url = url;
    }
    if (!shop.ops) throw new Error("the shop did not print its addresses");
    return shop;
  }

  /** Sends a request on a connection of its own, so that each may be served by another worker. Returns the status. */
  get(path, method = "GET", headers = {}) {
    return new Promise((resolve, reject) => {
      const sent = request(this.url + path, { method, agent: false, headers }, (answer) => {
        answer.resume().on("end", () => resolve(answer.statusCode));
      });
      sent.on("error", reject).end();
    });
  }

  /** Starts the download, and takes nothing of it. Returns a function that leaves. */
  download() {
    return new Promise((resolve, reject) => {
      const sent = request(`${this.url}/download`, { agent: false }, (answer) => {
        answer.pause().on("error", () => {});
        resolve(() => sent.destroy());
      });
      sent.on("error", reject).end();
    });
  }

  async stop() {
    this.process.kill("SIGKILL");
    return this.exited;
  }
}

/** A headless browser. */
export function launch() {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A context of pages that have their time on a busy machine. */
export async function newContext(browser, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(120_000);
  return context;
}

/** Opens the live page and waits for its first data. */
export async function open(browser, url, options = {}) {
  const page = await visit(browser, url, options);
  // The tiles are empty before their first picture, and have no values before the first data.
  await until("the first picture", async () => !["", "–"].includes(await page.textContent("#tiles strong")));
  return page;
}

/** Opens a page that records its errors in `page.faults`. */
export async function visit(browser, url, options = {}) {
  const context = await newContext(browser, { viewport: { width: 1440, height: 1000 }, ...options });
  const page = await context.newPage();
  const { origin } = new URL(url);
  page.faults = [];
  page.on("console", (message) => message.type() === "error" && page.faults.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => page.faults.push(`error: ${error.stack}`));
  page.on("requestfailed", (request) => {
    // A stream that ends with its page is not a failure.
    if (!/ERR_ABORTED/.test(request.failure()?.errorText)) page.faults.push(`failed: ${request.url()}`);
  });
  page.on("request", (request) => {
    const target = new URL(request.url());
    if (target.origin !== origin && target.protocol !== "blob:") page.faults.push(`foreign: ${request.url()}`);
  });
  page.on("response", (response) => response.status() >= 400 && page.faults.push(`${response.status()}: ${response.url()}`));
  await page.goto(url);
  return page;
}

/** The address of a page, by its own word: the browser's other processes hear of a change later. */
export const address = (page) => page.evaluate(() => location.href);

/** Waits until the page has its data and has drawn it. */
export async function settled(page) {
  await page.waitForSelector("#charts[aria-busy=false]");
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
}

/** Repeats `look` until it returns a truthy value. Fails after `seconds`. */
export async function until(what, look, seconds = 40) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The rows of a table, each as `{heading: text}`, in their order. */
export function rows(page, id) {
  return page.$eval(`#${id}`, (table) => {
    const headings = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    return [...table.tBodies[0].rows].map((row) =>
      Object.fromEntries([...row.cells].map((cell, i) => [headings[i], cell.textContent])));
  });
}

/** The tiles, as `{label: [value, the text below]}`. */
export function tiles(page) {
  return page.$eval("#tiles", (list) =>
    Object.fromEntries([...list.children].map((tile) => [...tile.children].map((part) => part.textContent)).map(([label, ...rest]) => [label, rest])));
}

const UNITS = { "": 1, "/s": 1, "%": 0.01, s: 1, ms: 1e-3, "µs": 1e-6, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** The number in a text such as `5 min: 12.3 ms`, in base units. */
export function number(text) {
  const found = /(?:^|: |peak )([\d,.]+)\s*(\/s|%|s|ms|µs|[KMG]?i?B)?$/.exec(text.trim());
  if (!found) throw new Error(`no number in ${JSON.stringify(text)}`);
  return Number(found[1].replaceAll(",", "")) * UNITS[found[2] ?? ""];
}

/** The file that a click saves: its name and its bytes. */
export async function download(page, selector) {
  const [saved] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
  return { name: saved.suggestedFilename(), bytes: readFileSync(await saved.path()) };
}

/** A chart's points as they would be saved: `[{heading: text}]`. */
export async function table(page, chart) {
  const text = await page.$eval(`#chart-${chart} .csv`, (button) => {
    const [click, create] = [HTMLAnchorElement.prototype.click, URL.createObjectURL];
    let saved;
    HTMLAnchorElement.prototype.click = () => {};
    URL.createObjectURL = (blob) => ((saved = blob), "");
    button.click();
    HTMLAnchorElement.prototype.click = click;
    URL.createObjectURL = create;
    return saved.text();
  });
  const [head, ...lines] = text.trim().split("\r\n").map((line) => line.split(","));
  return lines.map((line) => Object.fromEntries(line.map((cell, i) => [head[i], cell])));
}

/** Violations that axe-core finds serious or worse, as one line each. */
export async function violations(page) {
  const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" | ")}`);
}
