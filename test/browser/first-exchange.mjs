// An empty installation teaches, and its page turns into the real one when the first exchange arrives.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import { at, button, CONSOLE, examples, expect, fieldgate, heading, inspect, journey, listener, owner, see, textOf, visit } from "./harness.mjs";

journey("first-exchange", async (browser) => {
  expect(/status of 401 .*\/api\/v1\/session\b/); // before the sign-in
  at("sign in");
  const page = await visit(browser, "/", { cookie: "" });
  await page.getByLabel("Name").fill(owner.name);
  await page.getByLabel("Password").fill(owner.password);
  await page.keyboard.press("Enter");

  at("the empty pages teach");
  await see(page, "Nothing has passed through this installation yet.");
  await page.evaluate(() => (window.before = true)); // gone, should the page be loaded anew
  await inspect(page, "empty-now");
  const other = await page.context().newPage();
  for (const [path, words] of [["apis", "No contract is published yet."], ["devices", "No device yet."], ["apps", "No app"], ["traffic", "Nothing has passed yet."]]) {
    at(`the empty page ${path}`);
    await other.goto(`${CONSOLE}/${path}`);
    await see(other, words);
    await inspect(other, `empty-${path}`);
  }
  await other.close();

  at("a contract is published by command, and the page says so");
  await fieldgate("api", "publish", fileURLToPath(new URL("thermo.openapi.yaml", examples)));
  await see(page, /There is one:.*can be called/);

  at("the button adds a device, and gives a command with the real address");
  await button(page, "Add a device and make its token").click();
  const command = await page.getByLabel("Command that sends the first exchange").innerText();
  assert.ok(command.includes(await listener("http")), command);
  await inspect(page, "empty-command");

  at("the command works as it stands there, and the page comes alive");
  await promisify(execFile)("bash", ["-c", command]);
  await see(page, "Devices online");
  await heading(page, "Needs a look").waitFor();
  assert.match(await textOf(page.locator("h1 + p")), /1 device is online/);
  assert.ok(await page.evaluate(() => window.before), "the page was loaded anew");
});
