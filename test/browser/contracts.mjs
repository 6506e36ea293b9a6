// Contracts: what is wrong with one is said before anything changes; retiring and restoring can be taken back.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { admin, at, button, CONSOLE, eventually, examples, expect, inspect, journey, see, visit } from "./harness.mjs";

journey("contracts", async (browser) => {
  expect(/status of 422 .*\/api\/v1\/apis\?/, /status of 404 .*\/api\/v1\/apis\/valve\b/); // the broken contract, and the one that is not there yet
  const page = await visit(browser, "/apis");
  const thermo = readFileSync(new URL("thermo.openapi.yaml", examples), "utf8");
  const stateOf = async (name) => (await admin("GET", `/api/v1/apis/${name}`)).versions[0].state;

  at("a broken contract, dropped on the page: where it is wrong, and what to do");
  const broken = thermo.replace("type: object", "type: objekt");
  const line = broken.slice(0, broken.indexOf("objekt")).split("\n").length;
  await see(page, "thermo");
  await page.evaluate((text) => {
    const dropped = new DataTransfer();
    dropped.items.add(new File([text], "broken.yaml", { type: "application/yaml" }));
    for (const type of ["dragenter", "dragover", "drop"]) document.querySelector("main").dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: dropped }));
  }, broken);
  await see(page, /This is no valid contract: \d+ place/);
  await button(page, new RegExp(`^line ${line}\\b`)).first().click();
  await see(page, /object/); // the remedy names what is allowed
  assert.ok(await button(page, "Publish").isDisabled());
  await inspect(page, "publish-broken");

  at("a contract of 50 MB is refused with words, and not sent");
  const folder = mkdtempSync(join(tmpdir(), "fieldgate-large-"));
  const large = join(folder, "large.openapi.yaml");
  writeFileSync(large, `${thermo}\n# ${"x".repeat(50 * 1000 * 1000)}`);
  let sent = 0;
  page.on("request", (request) => (sent += request.method() === "POST" ? 1 : 0));
  await page.goto(`${CONSOLE}/apis/publish`);
  await page.getByLabel("A contract", { exact: true }).setInputFiles(large);
  await page.getByRole("alert").getByText(/large\.openapi\.yaml has .* a contract has at most .*Nothing was sent/).waitFor();
  rmSync(folder, { recursive: true });
  assert.equal(sent, 0);
  await inspect(page, "publish-too-large");

  at("a good one shows its plan first, and publishing it can be taken back");
  await page.getByLabel("A contract", { exact: true }).setInputFiles({ name: "valve.yaml", mimeType: "application/yaml", buffer: Buffer.from(valve) });
  await see(page, "valve 1.0.0 becomes a new API with 1 operation");
  await inspect(page, "publish-plan");
  await button(page, "Publish").click();
  await see(page, "valve 1.0.0 is live");
  assert.equal(await stateOf("valve"), "active");
  await button(page, "Undo").click();
  await see(page, "valve is as it was before");
  assert.notEqual(await stateOf("valve"), "active");

  at("a change of its rules is read before it is published, and afterwards");
  const limited = (count) => valve.replace("operationId: getLevel", `operationId: getLevel\n      x-fieldgate: {policies: [{rate: ${count}/min}, {cache: {ttl: 30s}}]}`);
  const choose = async (text) => {
    await page.goto(`${CONSOLE}/apis/publish`);
    await page.getByLabel("A contract", { exact: true }).setInputFiles({ name: "valve.yaml", mimeType: "application/yaml", buffer: Buffer.from(text) });
  };
  await choose(limited(6));
  await button(page, "Publish").click();
  await see(page, "valve 1.0.0 is live");
  await choose(limited(9));
  await page.getByRole("list", { name: "Rules of getLevel that change" }).getByText("rate: at most 9 calls a minute by device (was: at most 6 calls a minute by device)").waitFor();
  await inspect(page, "publish-rules");
  await button(page, "Publish").click();
  await page.getByRole("button", { name: "Rules of getLevel, and how to call it" }).filter({ visible: true }).click();
  const rules = page.getByRole("list", { name: "Rules of getLevel" }).filter({ visible: true });
  await rules.getByText("At most 9 calls a minute by device.").waitFor();
  await rules.getByText("Answers are kept 30 s, unless their service says otherwise, one for each caller.").waitFor();
  await inspect(page, "api-rules");

  at("retire, and undo");
  await page.goto(`${CONSOLE}/apis/meter`);
  await see(page, /is active/);
  await button(page, "Retire").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText(/410 Gone/).waitFor();
  await inspect(page, "retire");
  await button(dialog, "Retire").click();
  await see(page, /meter \S+ is retired/);
  assert.equal(await stateOf("meter"), "retired");
  await button(page, "Undo").click();
  await eventually("it is active again", async () => (await stateOf("meter")) === "active");
  await see(page, /is active/);

  at("retire, and restore");
  await button(page, "Retire").click();
  await button(dialog, "Retire").click();
  await eventually("it is retired", async () => (await stateOf("meter")) === "retired");
  await button(page, "Restore").click();
  await eventually("it is active again", async () => (await stateOf("meter")) === "active");
});

const valve = `openapi: 3.1.0
info: {title: Valve, version: 1.0.0}
x-fieldgate:
  api: valve
  upstreams: {ingest: {ref: env/ingest}}
  upstream: ingest
  principal: {from: [token], as: deviceId}
security: [{deviceToken: []}]
paths:
  /valves/{deviceId}/level:
    parameters:
      - {name: deviceId, in: path, required: true, x-fieldgate-bind: principal, schema: {type: string, maxLength: 64}}
    get:
      operationId: getLevel
      responses: {'204': {description: nothing to say}}
components:
  securitySchemes: {deviceToken: {type: http, scheme: bearer}}
`;
