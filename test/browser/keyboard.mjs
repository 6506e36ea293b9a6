// The keyboard alone: sign in, publish a contract, see its traffic, open an exchange, quarantine that device, undo it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { admin, at, eventually, examples, expect, gone, heading, journey, owner, lead, press, see, tabTo, visit } from "./harness.mjs";

journey("keyboard", async (browser) => {
  expect(/status of 401 .*\/api\/v1\/session\b/); // before the sign-in
  at("sign in");
  const page = await visit(browser, "/", { cookie: "" });
  await tabTo(page, "Name"); // where the focus is already
  await page.keyboard.type(owner.name);
  await press(page, "Tab");
  await page.keyboard.type(owner.password);
  await press(page, "Enter");
  await heading(page, "Now").waitFor();

  at("publish a contract from a file");
  await lead(page, "a", "APIs");
  await press(page, "n");
  await see(page, "Choose a file");
  await tabTo(page, "Choose a file");
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), press(page, "Enter")]);
  const document = readFileSync(new URL("thermo.openapi.yaml", examples), "utf8").replace("version: 2.4.0", "version: 2.5.0");
  await chooser.setFiles({ name: "thermo-2.5.openapi.yaml", mimeType: "application/yaml", buffer: Buffer.from(document) });
  await see(page, "thermo gets version 2.5.0 and takes the place of 2.4.0");
  await tabTo(page, "Publish");
  await press(page, "Enter");
  await see(page, "thermo 2.5.0 is live");

  at("see its traffic");
  await tabTo(page, /^[\d,.]+ calls$/);
  await press(page, "Enter");
  await heading(page, "Traffic").waitFor();
  await press(page, "/", "End");
  await page.keyboard.type(" version:2.5.0 kind:device status:ok");
  await press(page, "Enter", "Escape", "Escape");
  await eventually("exchanges of the new version arrive", async () => (await page.locator("[data-index]").count()) > 0);

  at("open an exchange");
  await press(page, "j");
  await page.getByLabel("Stages of the exchange").waitFor();
  const instance = new URL(page.url()).searchParams.get("open");
  await press(page, "Enter");
  await eventually("the exchange has a page of its own", () => new URL(page.url()).pathname === `/traffic/${instance}`);
  await page.getByLabel("Stages of the exchange").waitFor();
  const device = await eventually("who it was", () => page.locator('main a[href^="/devices/"]').first().innerText());

  at("quarantine that device");
  await tabTo(page, device);
  await press(page, "Enter");
  await see(page, /^Active/);
  await press(page, "x");
  await page.getByRole("dialog").waitFor();
  await tabTo(page, /^Reason/);
  await page.keyboard.type("It sends at night.");
  await press(page, "Enter");
  await see(page, `${device} is quarantined`);
  await see(page, /In quarantine: nothing that it sends is let through/);
  assert.equal((await admin("GET", `/api/v1/devices/${device}`)).state, "quarantined");

  at("undo it");
  await tabTo(page, "Undo", "Shift+Tab");
  await press(page, "Enter");
  await gone(page, /In quarantine: nothing/);
  assert.equal((await admin("GET", `/api/v1/devices/${device}`)).state, "active");
});
