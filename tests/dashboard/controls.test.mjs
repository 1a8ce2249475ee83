// The controls of the page: window, pause, filter, sort, hide, zoom, save, and the link.

import assert from "node:assert/strict";
import { after, before, beforeEach, afterEach, test } from "node:test";

import { Server, address, download, launch, open, rows, settled, table, until } from "./support.mjs";

let server, browser, page;
before(async () => {
  [server, browser] = [await Server.start(), await launch()];
  await server.traffic(20);
});
after(async () => {
  await browser.close();
  await server.remove();
});
beforeEach(async () => {
  page = await open(browser, `${server.url}/dashboard`);
  await until("the traffic", async () => (await rows(page, "endpoints")).length === 4);
});
afterEach(async () => {
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

const query = async () => Object.fromEntries(new URL(await address(page)).searchParams);
const summary = (chart) => page.textContent(`#chart-${chart} .summary`);

test("a window is chosen, kept in the address, and gone back from", async () => {
  await page.check("[name=window][value='60']", { force: true });
  await until("the window", async () => (await page.textContent("#range")) === "Last 60 minutes");
  assert.deepEqual(await query(), { window: "60" });
  await page.reload();
  await until("the window again", async () => (await page.textContent("#range")) === "Last 60 minutes");
  assert.ok(await page.isChecked("[name=window][value='60']"));
  await page.goBack();
  await until("the window before", async () => (await page.textContent("#range")) === "Last 5 minutes");
  // Wider points hold the same requests.
  await page.check("[name=window][value='60']", { force: true });
  await until("points of 15 seconds", async () => (await table(page, "throughput")).every((point) => point["epoch (seconds)"] % 15 === 0));
});

test("a paused page stays as it is, also when its link is opened elsewhere", async () => {
  await page.click("#pause");
  await settled(page);
  assert.equal(await page.textContent("#status"), "Paused");
  const before = await summary("throughput");
  await server.traffic(3);
  const [{ time }] = await server.ticks(-1);
  await until("two more ticks", async () => (await server.ticks(time)).length >= 2);
  assert.equal(await summary("throughput"), before);
  const other = await open(browser, await address(page));
  await until("the same picture", async () => (await other.textContent("#chart-throughput .summary")) === before);
  assert.equal(await other.textContent("#pause"), "Go live");
  await other.context().close();
  await page.click("#pause");
  await until("the new requests", async () => (await summary("throughput")) !== before);
  assert.deepEqual(await query(), { window: "5" });
});

test("an endpoint is chosen in the table or in the list, and filters the charts that it can", async () => {
  await page.click("#endpoints button.endpoint[title='GET /data']");
  await settled(page);
  assert.deepEqual(await query(), { window: "5", endpoint: "GET /data" });
  assert.equal(await page.textContent("#chart-throughput .scope"), "GET /data");
  assert.equal(await page.textContent("#chart-cpu .scope"), "whole service");
  assert.equal(await page.inputValue("#endpoint"), "GET /data");
  const failures = (await table(page, "throughput")).some((point) => Number(point["4xx (per second)"]) > 0);
  assert.ok(!failures, "GET /data had no 4xx");
  assert.equal(await page.getAttribute("#endpoints button.endpoint[title='GET /data']", "aria-pressed"), "true");
  await page.selectOption("#endpoint", "GET unmatched");
  assert.equal((await query()).endpoint, "GET unmatched");
  await page.selectOption("#endpoint", "");
  await settled(page);
  assert.deepEqual(await query(), { window: "5" });
  assert.equal(await page.textContent("#chart-cpu .scope"), "");
});

test("a table is sorted by any column, either way", async () => {
  const column = async (name) => (await rows(page, "endpoints")).map((row) => row[name]);
  await page.click("#endpoints th button:text-is('Endpoint')");
  const names = await column("Endpoint");
  assert.deepEqual(names, [...names].sort());
  await page.click("#endpoints th button:text-is('Endpoint')");
  assert.deepEqual(await column("Endpoint"), [...names].reverse());
  await page.click("#endpoints th button:text-is('Requests')");
  const counts = (await column("Requests")).map(Number);
  assert.deepEqual(counts, [...counts].sort((a, b) => b - a));
  assert.equal(await page.getAttribute("#endpoints th:nth-child(2)", "aria-sort"), "descending");
  assert.equal(await page.locator("#endpoints [aria-sort]").count(), 1);
});

test("a legend entry takes its line out of the picture and out of the scale", async () => {
  const picture = () => page.$eval("#chart-throughput canvas", (canvas) => canvas.toDataURL());
  await page.click("#pause");
  await settled(page);
  const before = await picture();
  const entry = page.locator("#chart-throughput .legend button", { hasText: "2xx" });
  await entry.click();
  assert.equal(await entry.getAttribute("aria-pressed"), "false");
  assert.notEqual(await picture(), before);
  await entry.click();
  assert.equal(await entry.getAttribute("aria-pressed"), "true");
  assert.equal(await picture(), before);
});

test("the crosshair is at the same time in all charts, and the legends show its values", async () => {
  await page.hover("#chart-memory .plot", { position: { x: 300, y: 60 } });
  const times = await page.locator(".cursor-time").allTextContents();
  assert.equal(times.length, 9);
  assert.equal(new Set(times).size, 1);
  assert.equal(await page.locator(".cursor:visible").count(), 9);
  await page.hover("h1");
  assert.equal(await page.locator(".cursor:visible").count(), 0);
});

test("a drag zooms all charts and the figures, and the way back is one click", async () => {
  const plot = page.locator("#chart-latency .plot");
  await plot.scrollIntoViewIfNeeded();
  const { x, y, width } = await plot.boundingBox();
  await page.mouse.move(x + width * 0.6, y + 50);
  await page.mouse.down();
  const begun = performance.now();
  await page.mouse.move(x + width * 0.9, y + 50, { steps: 4 });
  assert.equal(await page.locator(".selection:visible").count(), 9);
  await page.mouse.up();
  // The live picture moves on during the drag.
  const moved = (performance.now() - begun) / 1000;
  const { from, to } = await until("the zoom", async () => ((found) => found.to && found)(await query()));
  assert.ok(Math.abs(to - from - 0.3 * 300 * (width / (width - 76))) <= 3 + moved, `${from} to ${to}`);
  assert.equal(await page.textContent("#status"), "Zoomed");
  assert.match(await page.textContent("#range"), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d to \d\d:\d\d:\d\d$/);
  await page.click("#unzoom");
  assert.deepEqual(await query(), { window: "5" });
  await until("the live picture", async () => (await page.textContent("#status")) === "Live");
});

test("all of it works with the keyboard alone", async () => {
  await until("enough points to walk over", async () => (await table(page, "cpu")).length >= 6);
  await page.focus("#chart-cpu .plot");
  await page.keyboard.press("ArrowLeft");
  const there = await page.getAttribute("#chart-cpu .plot", "aria-valuetext");
  assert.match(there, /^\d\d:\d\d:\d\d: CPU /);
  await page.keyboard.press("ArrowLeft");
  assert.notEqual(await page.getAttribute("#chart-cpu .plot", "aria-valuenow"), null);
  assert.notEqual(await page.getAttribute("#chart-cpu .plot", "aria-valuetext"), there);
  await page.keyboard.press("Enter");
  for (let i = 0; i < 3; i++) await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Enter");
  await until("the zoom", async () => (await query()).from);
  await page.keyboard.press("Escape");
  await until("the way back", async () => !(await query()).from);
  await page.focus("#endpoints button.endpoint >> nth=0");
  await page.keyboard.press("Enter");
  assert.ok((await query()).endpoint);
});

test("a chart is saved as a table and as a picture", async () => {
  const csv = await download(page, "#chart-throughput .csv");
  assert.match(csv.name, /^actix-vitals-throughput-\d{4}-\d\d-\d\dT\d{6}\.csv$/);
  const lines = csv.bytes.toString().split("\r\n");
  assert.equal(lines[0], ["epoch (seconds)", "time (UTC)", ...["5xx", "4xx", "other", "3xx", "2xx"].map((name) => `${name} (per second)`)].join(","));
  assert.match(lines[1], /^\d{10},\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z(,[\d.]+){5}$/);
  const png = await download(page, "#chart-latency .png");
  assert.match(png.name, /^actix-vitals-latency-.*\.png$/);
  assert.deepEqual([...png.bytes.subarray(0, 4)], [0x89, 0x50, 0x4e, 0x47]);
  assert.equal(png.bytes.readUInt32BE(16), 2400);
});
