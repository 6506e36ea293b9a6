// A device and an app get their credentials once, and these work at once; revoking is for good and asks for the name.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { at, button, CONSOLE, eventually, gone, inspect, journey, listener, see, visit } from "./harness.mjs";

journey("credentials", async (browser) => {
  const gateway = `http://${await listener("http")}`;
  const page = await visit(browser, "/devices", { permissions: ["clipboard-read", "clipboard-write"] });
  const dialog = page.getByRole("dialog");
  const reading = JSON.stringify({ ts: "2026-11-22T18:11:05Z", seq: 1, temp: 21.5 });
  const send = (device, token) =>
    statusOf(`${gateway}/devices/${device}/telemetry`, { method: "POST", headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" }, body: reading });
  const ask = (device, key) => statusOf(`${gateway}/devices/${device}/state`, { headers: { Authorization: `Bearer ${key}` } });

  at("add a device");
  await button(page, "Add a device").click();
  await button(dialog, "Add the device").click();
  await eventually("an id is demanded", () => dialog.locator('[aria-invalid="true"]').count());
  await dialog.getByLabel("Id").fill("window-7");
  await dialog.getByLabel("Model").fill("T2");
  await button(dialog, "Add the device").click();
  const token = await secret("token");
  await see(page, "Its first exchange shows here.");
  await inspect(page, "device-added");

  at("its token works at once, and its exchange arrives in the dialog");
  assert.equal(await send("window-7", token), 204);
  await see(page, "Its exchange arrived");

  at("the token is shown only once");
  await button(dialog, "Done").click();
  await page.goto(`${CONSOLE}/devices/window-7`);
  await see(page, /^Active/);
  assert.ok(!(await page.content()).includes(token));

  at("a pre-shared key is made and shown once");
  await button(page, "Set a key").click();
  await dialog.getByLabel(/^Identity/).fill("meter-0007");
  await dialog.getByLabel(/^Key/).fill("00");
  await button(dialog, "Set the key").click();
  await eventually("a whole key is demanded", () => dialog.locator('[aria-invalid="true"]').count());
  await inspect(page, "device-psk");
  await dialog.getByLabel(/^Key/).fill("");
  await button(dialog, "Set the key").click();
  const psk = await secret("key", /^[0-9a-f]{64}$/, 1);
  await inspect(page, "device-psk-made");
  await button(dialog, "Done").click();
  await see(page, "meter-0007");
  assert.ok(!(await page.content()).includes(psk));

  at("a certificate is registered, without the key that stands beside it");
  await button(page, "Register one").click();
  await button(dialog, "Register the certificate").click();
  await see(page, /There is no certificate in it/);
  const folder = await mkdtemp(join(tmpdir(), "certificate-"));
  const pem = join(folder, "device.pem");
  await promisify(execFile)("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "20", "-subj", "/O=Windows Inc./CN=serial 4711",
    "-keyout", pem, "-out", join(folder, "certificate.pem")]);
  const both = (await readFile(pem, "utf8")) + (await readFile(join(folder, "certificate.pem"), "utf8"));
  await dialog.getByLabel("PEM file").setInputFiles({ name: "device.pem", mimeType: "application/x-pem-file", buffer: Buffer.from(both) });
  await eventually("the file is read", async () => /^-----BEGIN CERTIFICATE-----/.test(await dialog.getByLabel(/^Certificate/).inputValue()));
  await inspect(page, "device-certificate");
  const [sent] = await Promise.all([page.waitForRequest((request) => request.method() === "POST"), button(dialog, "Register the certificate").click()]);
  assert.match(sent.postData(), /BEGIN CERTIFICATE/);
  assert.ok(!sent.postData().includes("PRIVATE KEY"));
  await see(page, "CN=serial 4711,O=Windows Inc.");
  await inspect(page, "device-credentials");

  at("both are removed, after a question");
  await button(page, "Remove the certificate").click();
  await inspect(page, "device-certificate-remove");
  await button(dialog, "Remove the certificate").click();
  await gone(page, "CN=serial 4711,O=Windows Inc.");
  await button(page, "Remove the pre-shared key").click();
  await button(dialog, "Remove the key").click();
  await button(page, "Set a key").waitFor(); // the decisions name its identity still

  at("revoking asks for the name, and cuts it off at once");
  await button(page, "Revoke").click();
  await dialog.getByText("This cannot be undone.").waitFor();
  const revoke = button(dialog, "Revoke for good");
  assert.ok(await revoke.isDisabled());
  await dialog.getByLabel("Type window-7 to confirm").fill("window-8");
  assert.ok(await revoke.isDisabled());
  await inspect(page, "revoke");
  await dialog.getByLabel("Type window-7 to confirm").fill("window-7");
  await revoke.click();
  await see(page, "Shut out for good.");
  assert.equal(await send("window-7", token), 401);

  at("add an app");
  await page.goto(`${CONSOLE}/apps`);
  await button(page, "Add an app").click();
  await dialog.getByLabel("Id").fill("report");
  await dialog.getByLabel(/Scopes/).first().fill("state.read");
  await button(dialog, "Add the app").click();
  const key = await secret("key");
  await inspect(page, "app-added");
  assert.equal(await ask("visitor", key), 200);
  await button(dialog, "Done").click();

  at("a new key, beside the old one");
  await page.goto(`${CONSOLE}/apps/report`);
  await button(page, "New key").click();
  await dialog.getByLabel(/stays? valid/i).check();
  await button(dialog, "Issue the key").click();
  const another = await secret("key");
  assert.notEqual(another, key);
  assert.deepEqual([await ask("visitor", key), await ask("visitor", another)], [200, 200]);
  await button(dialog, "Done").click();

  at("revoke the app");
  await button(page, "Revoke").click();
  await dialog.getByLabel("Type report to confirm").fill("report");
  await button(dialog, /^Revoke/).click();
  await see(page, "Shut out for good.");
  assert.deepEqual([await ask("visitor", key), await ask("visitor", another)], [401, 401]);

  /** What the dialog shows, copied by its button. */
  async function secret(what, form = /^fg[a-z]_\w{20,}$/, at = 0) {
    await see(page, `Copy the ${what} now: it is shown only this once.`);
    await button(dialog, "Copy").first().click();
    await see(page, "Copied");
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(copied, form);
    assert.equal(await dialog.locator("code").nth(at).innerText(), copied);
    return copied;
  }
});

/** The status of an answer. The demo's service fails now and then, as services do: then it is asked again. */
async function statusOf(url, options) {
  for (let tries = 0; ; tries++) {
    const { status } = await fetch(url, options);
    if (status !== 503 || tries === 20) return status;
  }
}
