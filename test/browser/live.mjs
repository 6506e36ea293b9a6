// What is shown is alive: figures move, new exchanges come in, and hold still when one asks.
import assert from "node:assert/strict";
import { admin, at, button, CONSOLE, eventually, journey, listener, press, see, sentence, textOf, visit } from "./harness.mjs";

journey("live", async (browser) => {
  at("the figures move");
  const page = await visit(browser);
  const figure = page.locator("[data-figure]").first().locator("xpath=../..").locator("p");
  await see(page, "Devices online");
  const seen = new Set();
  await eventually("different rates", async () => seen.add(await textOf(figure)).size >= 4);
  assert.match(await textOf(sentence(page)), /\d+ devices are online, with [\d.,]+ exchanges a second/);

  at("paused, they stand still");
  await press(page, "p");
  await button(page, "Live").getByText("Paused").waitFor();
  const figures = async () => (await textOf(sentence(page))).split(". ")[0]; // what needs a look goes on
  const still = await figures();
  const { exchanges } = await admin("GET", "/api/v1/status");
  await eventually("exchanges go on meanwhile", async () => (await admin("GET", "/api/v1/status")).exchanges > exchanges + 50);
  assert.equal(await figures(), still);

  at("a new exchange appears in Traffic");
  const { token } = await admin("POST", "/api/v1/devices", { id: "lamp-1" });
  const send = async () => fetch(`http://${await listener("http")}/devices/lamp-1/telemetry`, {
    method: "POST", headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" }, body: JSON.stringify({ ts: "2026-11-22T18:11:05Z", seq: 1, temp: 21.5 }),
  });
  await page.goto(`${CONSOLE}/traffic?filter=device:lamp-1`);
  await see(page, "Nothing fits among the newest exchanges.");
  const rows = page.locator("[data-index]");
  await send();
  await eventually("one row", async () => (await rows.count()) === 1);

  at("paused, the list says how many wait");
  await press(page, "p");
  await see(page, /^Paused$/);
  await send();
  await send();
  await see(page, "Paused · 2 new");
  assert.equal(await rows.count(), 1);
  await press(page, ".");
  await eventually("three rows", async () => (await rows.count()) === 3);

  at("what somebody decides elsewhere shows here by itself");
  await page.goto(`${CONSOLE}/devices/lamp-1`);
  await see(page, /^Active/);
  await admin("POST", "/api/v1/devices/lamp-1/quarantine", { reason: "too bright" });
  await see(page, /In quarantine: nothing/);
  assert.equal((await send()).status, 403);
});
