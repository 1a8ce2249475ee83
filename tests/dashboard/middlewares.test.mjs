// The page behind the middlewares of a whole application: CORS for one other origin, and credentials, also in the address.
// And its message if a part of it is rejected.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, newContext, open, until } from "./support.mjs";

const URL_OF_PAGE = `${process.env.VITALS_URL}/dashboard`;
const httpCredentials = { username: "ada", password: "s3cret" };

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const status = (page) => page.textContent("#status");
const live = (page) => until("ticks", async () => (await status(page)) === "Live");

/** Visits the page with replaced answers for some of its parts. */
async function refused(parts, answer) {
  const context = await newContext(browser, { httpCredentials });
  const page = await context.newPage();
  await context.route(parts, (route) => route.fulfill(answer));
  await page.goto(URL_OF_PAGE);
  return page;
}

test("a CORS middleware for other origins refuses no part of the page", async () => {
  const page = await open(browser, URL_OF_PAGE, { httpCredentials });
  await live(page);
  assert.deepEqual(page.faults, []);
  // Proves that the middleware works: a module script sends an `Origin` and is rejected.
  await assert.rejects(page.addScriptTag({ url: `${URL_OF_PAGE}/app.js`, type: "module" }));
  assert.ok(page.faults.some((fault) => fault.startsWith("400: ")), page.faults.join());
  await page.context().close();
});

test("the page works where its address has credentials", async () => {
  const page = await open(browser, URL_OF_PAGE.replace("//", "//ada:s3cret@"));
  await live(page);
  assert.deepEqual(page.faults, []);
  await page.click("text=15 min");
  await page.waitForURL(/window=15/);
  await page.waitForSelector("#charts[aria-busy=false]");
  assert.deepEqual(page.faults, []);
  const relative = page.evaluate(() => fetch("dashboard/history"));
  await assert.rejects(relative, /includes credentials/, "what the page must not do");
  await page.context().close();
});

test("a script that is refused is named", async () => {
  const asked = Date.now();
  const page = await refused(/app\.js$/, { status: 400, body: "Origin is not allowed" });
  const early = await page.isVisible("#unloaded");
  // It appears five seconds after the page. A busy machine may have taken longer until here.
  if (Date.now() - asked < 5000) assert.equal(early, false, "not at once");
  await page.waitForSelector("#unloaded", { state: "visible" });
  assert.match(await page.textContent("#unloaded"), /dashboard\/app\.js/);
  await page.context().close();
});

test("a history that is refused, or that something else answers, is named", async () => {
  for (const [answer, said] of [
    [{ status: 403, body: "no" }, "The server answers dashboard/history with 403."],
    [{ status: 200, contentType: "text/html", body: "<h1>Log in</h1>" }, "Something else answers dashboard/history, such as a login page."],
  ]) {
    const page = await refused(/history/, answer);
    await until(said, async () => (await page.textContent("#instance")) === said);
    assert.equal(await page.locator("#unloaded").count(), 0);
    await page.context().close();
  }
});

test("a worker that is refused is named", async () => {
  const page = await refused(/worker\.js$/, { status: 403, body: "no" });
  const said = "dashboard/worker.js does not load or fails.";
  await until(said, async () => (await status(page)) === said);
  await page.context().close();
});
