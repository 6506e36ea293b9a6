// Two people at once: the slower one is shown the difference; and who loses a role learns it at the next thing they do.
import assert from "node:assert/strict";
import { admin, at, button, CONSOLE, eventually, expect, heading, inspect, journey, operator, see, visit } from "./harness.mjs";

journey("two-operators", async (browser) => {
  expect(/status of 412 .*\/api\/v1\/devices\/door-1/, /status of 40[13] .*\/api\/v1\//);
  await admin("POST", "/api/v1/devices", { id: "door-1", model: "D1", firmware: "1.0.0" });
  const ben = await visit(browser, "/devices/door-1", { cookie: await operator("ben", "operator") });
  const ana = await visit(browser, "/devices/door-1");

  at("both open the same device and change it");
  for (const page of [ana, ben]) {
    await see(page, /never seen yet/);
    await button(page, "Change").click();
    await page.getByRole("dialog").waitFor();
  }
  await ana.getByRole("dialog").getByLabel("Firmware").fill("1.1.0");
  await button(ana.getByRole("dialog"), "Change").click();
  await see(ana, "door-1 is changed");

  at("the second one gets the difference");
  const dialog = ben.getByRole("dialog");
  await dialog.getByLabel("Firmware").fill("2.0.0");
  await button(dialog, "Change").click();
  await see(ben, "Somebody else changed it while you wrote; yours is not applied.");
  const row = dialog.getByRole("row", { name: /Firmware/ });
  assert.deepEqual(await row.getByRole("cell").allInnerTexts(), ["1.0.0", "1.1.0", "2.0.0"]);
  await see(ben, /ana,/);
  assert.equal((await admin("GET", "/api/v1/devices/door-1")).firmware, "1.1.0");
  await inspect(ben, "changed-meanwhile");

  at("and decides with open eyes");
  await button(dialog, "Apply mine to how it is now").click();
  await see(ben, "door-1 is changed");
  assert.equal((await admin("GET", "/api/v1/devices/door-1")).firmware, "2.0.0");

  at("a role is taken away while a dialog is open");
  await button(ben, "Quarantine").click();
  await dialog.waitFor();
  await admin("PATCH", "/api/v1/operators/ben", { role: "auditor" });
  await button(dialog, "Quarantine").click();
  await see(ben, /you are auditor|role auditor/);
  assert.equal((await admin("GET", "/api/v1/devices/door-1")).state, "active");

  at("and what they may no longer do is no longer offered");
  await ben.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await eventually("nothing is offered", () =>
    ben.evaluate(() => [...document.querySelectorAll("main button")].filter((b) => /^(Quarantine|New token|Change|Revoke)$/.test(b.innerText.trim())).every((b) => b.disabled || b.getAttribute("aria-disabled") === "true")));
  await ben.goto(`${CONSOLE}/devices`);
  await see(ben, "door-1");
  await inspect(ben, "devices-auditor");

  at("an operator who is disabled is out, with the tab open");
  await admin("PATCH", "/api/v1/operators/ben", { disabled: true });
  await heading(ben, "Sign in").waitFor();
});
