// A table of 10,000 devices, which the command line imported: it scrolls to its end, and no row is ever blank.
import assert from "node:assert/strict";
import { at, eventually, expect, inspect, journey, owner, see, visit } from "./harness.mjs";

journey("many-devices", async (browser) => {
  expect(/status of 401 .*\/api\/v1\/session\b/); // before the sign-in
  const page = await visit(browser, "/devices", { cookie: "" });
  await page.getByLabel("Name").fill(owner.name);
  await page.getByLabel("Password").fill(owner.password);
  await page.keyboard.press("Enter");
  await see(page, "sensor-00000");

  at("scroll to the end");
  const table = page.getByRole("table", { name: "Devices" });
  let steps = 0;
  for (let end = false; !end; steps++) {
    const before = await table.evaluate((e) => e.scrollTop);
    const { holes, atEnd } = await table.evaluate(scrollOn, 4800);
    assert.deepEqual(holes, []);
    if (atEnd) {
      // Further pages are on their way, or this is the last row.
      end = await eventually("more rows, or the end", async () => {
        const { more, height } = await table.evaluate((e) => ({ more: /more below/.test(e.parentElement.innerText), height: e.scrollHeight - e.clientHeight }));
        return height > before + 1 && !(await table.evaluate((e) => e.scrollTop + e.clientHeight >= e.scrollHeight - 1)) ? "more" : !more && "end";
      }) === "end";
    }
  }
  await see(page, "sensor-09999");
  await see(page, /^10,\d\d\d in all$/);

  at("jump to the beginning, the middle and the end");
  for (const part of [0, 0.5, 1, 0.25, 0.75]) {
    const { holes } = await table.evaluate((e, to) => {
      e.scrollTop = to * e.scrollHeight;
    }, part).then(() => table.evaluate(scrollOn, 0));
    assert.deepEqual(holes, []);
  }

  at("from the keyboard");
  await table.locator("[data-row]").first().focus();
  await page.keyboard.press("Home");
  await eventually("the first row has the focus", () => page.evaluate(() => document.activeElement?.closest("[data-index]")?.getAttribute("data-index") === "0"));
  await page.keyboard.press("End");
  await eventually("the last row has the focus", () => page.evaluate(() => Number(document.activeElement?.closest("[data-index]")?.getAttribute("data-index")) >= 9999));
  await inspect(page, "many-devices");
  console.log(`10,000 devices in ${steps} steps of 4800 px without a blank row`);
});

/** Scrolls on and looks, once the browser has drawn it, at each place where a row should be. */
async function scrollOn(table, by) {
  table.scrollTop += by;
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  const place = table.getBoundingClientRect();
  const header = table.querySelector("[role=columnheader]").closest("[role=rowgroup]").getBoundingClientRect();
  const holes = [];
  for (let y = header.bottom + 4; y < place.bottom - 4; y += 12) {
    const row = document.elementFromPoint(place.left + 40, y)?.closest("[data-index]");
    if (!row?.innerText.trim()) holes.push(`${Math.round(table.scrollTop)} + ${Math.round(y)}`);
  }
  return { holes, atEnd: table.scrollTop + table.clientHeight >= table.scrollHeight - 1 };
}
