// The page about the API: Swagger UI works under its policy and sends requests only to its own server.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Server, launch, visit } from "./support.mjs";

let server, browser;
before(async () => ([server, browser] = [await Server.start(), await launch()]));
after(async () => {
  await browser.close();
  await server.remove();
});

test("every operation is shown and can be tried out, with no fault and no request to anyone else", async () => {
  const page = await visit(browser, `${server.url}/docs`);
  const { json: description } = await server.request("GET", "/openapi.json");
  const operations = Object.values(description.paths).flatMap((item) => Object.keys(item).filter((key) => key !== "parameters"));
  await page.waitForSelector(".opblock");
  assert.equal(await page.locator(".opblock").count(), operations.length);

  const create = page.locator("#operations-items-create_item");
  await create.locator(".opblock-summary-control").click();
  await create.locator(".try-out__btn").click();
  await create.locator(".execute").click();
  await create.locator(".live-responses-table .response-col_status").filter({ hasText: "201" }).waitFor();
  assert.equal((await server.request("GET", "/data")).json.length, 1);

  // Unfolds everything, with parameters, schemas and examples.
  for (const block of await page.locator(".opblock").all()) {
    if (!/is-open/.test(await block.getAttribute("class"))) await block.locator(".opblock-summary-control").click();
    await block.locator(".responses-table").first().waitFor();
  }
  assert.deepEqual(page.faults, []);
  await page.context().close();
});
