// Takes the pictures of docs/WHY.md into the given directory: the faults of the example `why`, as the page shows them.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { Shop, launch, open, rows, until } from "./support.mjs";

const [directory] = process.argv.slice(2);
mkdirSync(directory, { recursive: true });

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const browser = await launch();

/** Runs a scene with a shop of its own, ordinary traffic unless it is `quiet`, and its page. */
async function scene(play, { quiet = false } = {}) {
  const shop = await Shop.start();
  const page = await open(browser, `${shop.ops}/dashboard`, { viewport: { width: 1040, height: 900 } });
  let id = 0;
  const traffic = setInterval(() => quiet || shop.get(`/customers/${(id++ % 1000) + 1}`).catch(() => {}), 100);
  for (let i = 0; i < 3; i++) await Promise.all(["/orders", "/search/99"].map((path) => shop.get(path)));
  /** Takes a picture of the section of a table, or of the open timeline. */
  const take = async (name, id) => {
    const part = page.locator(id === "request" ? "#request" : `section:has(#${id})`);
    // Without the cursor over a row.
    await page.mouse.move(0, 0);
    await part.scrollIntoViewIfNeeded();
    const { x, y, width, height } = await part.boundingBox();
    const margin = id === "request" ? 0 : 12;
    const clip = { x: x - margin, y: y - margin, width: width + 2 * margin, height: height + 2 * margin };
    await page.screenshot({ clip, path: join(directory, `why-${name}.png`) });
  };
  const seen = (table, wanted) => until(`${table} in its state`, async () => wanted(await rows(page, table)));
  /** Opens the slowest kept request of an endpoint as a reader does. */
  const explain = async (endpoint, { ready = () => true, by = "Duration" } = {}) => {
    await page.click(`#endpoints button.endpoint[title="${endpoint}"]`);
    await seen("kept", (kept) => kept.length > 0 && kept.every(({ Endpoint }) => Endpoint === endpoint) && ready(kept));
    if (by !== "Duration") await page.click(`#kept thead button >> text=${by}`);
    await page.click("#kept a >> nth=0");
    await page.waitForSelector("#request[open] .track");
  };
  await play({ shop, page, take, seen, explain });
  clearInterval(traffic);
  await page.context().close();
  await shop.stop();
}

const ignore = (promise) => promise.catch(() => {});

await scene(async ({ shop, take, seen }) => {
  for (let i = 0; i < 6; i++) ignore(shop.get("/report"));
  await seen("now", (now) => now.filter(({ Doing }) => Doing === "blocks its event loop").length === 2);
  await pause(1);
  await take("blocked-now", "now");
  await seen("loops", (loops) => loops.some(({ Stalls }) => Number(Stalls) >= 6));
  await take("blocked-loops", "loops");
});

await scene(async ({ shop, take, seen }) => {
  for (let i = 0; i < 3; i++) await shop.get("/import", "POST");
  for (let i = 0; i < 4; i++) ignore(shop.get("/orders"));
  await seen("pool", (pool) => pool.filter(({ Connection }) => Connection === "waits").length >= 4);
  await pause(3);
  await take("leak", "pool");
}, { quiet: true });

await scene(async ({ shop, take, seen }) => {
  ignore(shop.get("/orders/7/payment", "POST"));
  await pause(1);
  for (const id of [8, 9]) ignore(shop.get(`/orders/${id}/note`, "PUT"));
  await seen("pool", (pool) => pool.filter(({ Connection }) => Connection === "waits for a lock").length === 2);
  await take("lock", "pool");
}, { quiet: true });

await scene(async ({ shop, page, take, seen, explain }) => {
  for (let i = 0; i < 5; i++) await shop.get("/orders");
  await seen("endpoints", (endpoints) => endpoints.some((row) => row.Endpoint === "GET /orders" && row["N+1"] !== "none"));
  await take("n-plus-one-endpoints", "endpoints");
  // The machine that takes the pictures may be busy: a request that waited for it is no example.
  await explain("GET /orders", { by: "In database" });
  await page.$eval("#request .scroll", (content) => content.lastChild.scrollIntoView());
  await take("n-plus-one", "request");
});

await scene(async ({ shop, take, explain }) => {
  for (let i = 0; i < 8; i++) await shop.get("/search/7");
  await explain("GET /search/{text}");
  await take("statement", "request");
});

await scene(async ({ shop, take, seen, explain }) => {
  for (let i = 0; i < 8; i++) await shop.get("/download");
  const leave = await shop.download();
  await seen("now", (now) => now.some(({ Doing }) => Doing === "sends the answer"));
  await pause(2);
  await take("client-now", "now");
  leave();
  await explain("GET /download", { ready: (kept) => kept.length >= 2 });
  await take("client", "request");
});

await browser.close();
