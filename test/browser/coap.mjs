// An app observes by CoAP what a device sends: both are peers, the observation is seen and ended, and an upload that stands still is
// listed. A device that comes by DTLS has a session, which is seen and ended, too.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { at, button, CONFIG, CONSOLE, eventually, examples, expect, FIELDGATE, fieldgate, inspect, inspectAll, journey, listener, owner, press, see, sentence, textOf, visit } from "./harness.mjs";

journey("coap", async (browser) => {
  await fieldgate("api", "publish", new URL("tracker.asyncapi.yaml", examples).pathname);
  const folder = await mkdtemp(join(tmpdir(), "fieldgate-coap-"));
  const device = join(folder, "c1.token"), app = join(folder, "wall.token");
  await writeFile(device, await fieldgate("device", "add", "c1", "--quiet"), { mode: 0o600 });
  await writeFile(app, await fieldgate("app", "add", "wall", "--scope", "positions.read", "--quiet"), { mode: 0o600 });

  at("nobody is there, and the page says how one comes");
  expect(/status of 401 .*\/api\/v1\/session\b/); // before the sign-in
  const page = await visit(browser, "/coap", { cookie: "" });
  await page.getByLabel("Name").fill(owner.name);
  await page.getByLabel("Password").fill(owner.password);
  await page.keyboard.press("Enter");
  await see(page, /Nobody has spoken CoAP|CoAP peers/);
  await inspectAll(page, [["coap-observations-empty", "/coap/observations", "Nobody observes a resource."], ["coap-transfers-empty", "/coap/transfers", "No body is on its way."]]);

  at("an app observes, and a device sends");
  const observer = spawn(FIELDGATE, ["coap", "observe", "/trackers/c1/position", "--token-file", app, "--for", "15m", "--config", CONFIG]);
  for (const part of [observer, observer.stdout, observer.stderr]) part.unref();
  const ended = new Promise((done) => observer.on("exit", done));
  await eventually("the observation is there", async () => (await fieldgate("coap", "peer", "list", "--filter", "observes:yes")).includes("wall"));
  await fieldgate("coap", "post", "/position", '{"ts":"2026-11-23T09:00:00Z","lat":1,"lon":2}', "--token-file", device);
  const [host, port] = (await listener("coap")).split(":");
  const socket = createSocket("udp4"); // the first block of an upload of 100 bytes: PUT /position, Block1 0/M/16, Size1 100
  socket.send(Buffer.concat([Buffer.from([0x40, 2, 0, 1, 0xb8]), Buffer.from("position"), Buffer.from([0xd1, 3, 0x08, 0xd1, 20, 100, 0xff]), Buffer.alloc(16)]), Number(port), host);
  await page.goto(`${CONSOLE}/coap`);
  await see(page, "wall");
  await see(page, "c1");
  assert.match(await textOf(sentence(page)), /1 observes something, 1 has a body on its way\./);
  await inspect(page, "coap-peers");

  at("one peer is looked at, by keys");
  await page.goto(`${CONSOLE}/coap?filter=principal%3Awall`);
  await see(page, "wall");
  await press(page, "j");
  await see(page, "/trackers/c1/position");
  await inspect(page, "coap-peer");
  await press(page, "Enter");
  await see(page, /^Heard /);

  at("what is on its way is listed");
  await page.goto(`${CONSOLE}/coap/transfers`);
  await see(page, "/position");
  await inspect(page, "coap-transfers");
  socket.close();

  at("the observation is ended, with a reason");
  await page.goto(`${CONSOLE}/coap/observations`);
  await see(page, "/trackers/c1/position");
  await inspect(page, "coap-observations");
  await button(page, "End").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Reason").fill("it is in the way");
  await inspect(page, "coap-end");
  await dialog.getByRole("button", { name: "End the observation" }).click();
  await see(page, "Nobody observes a resource.");
  assert.notEqual(await ended, 0, "the observer is told that it is refused");

  at("a device has a DTLS session, by its pre-shared key");
  await fieldgate("api", "publish", new URL("thermo.openapi.yaml", examples).pathname);
  const key = join(folder, "c2.key");
  await fieldgate("device", "add", "c2", "--quiet");
  await writeFile(key, "000102030405060708090a0b0c0d0e0f", { mode: 0o600 });
  await fieldgate("device", "psk", "c2", "--key-file", key);
  const secured = spawn(FIELDGATE, ["coap", "observe", "coaps:///c", "--psk-identity", "c2", "--psk-file", key, "--for", "15m", "--config", CONFIG]);
  for (const part of [secured, secured.stdout, secured.stderr]) part.unref();
  const left = new Promise((done) => secured.on("exit", done));
  await eventually("the session is there", async () => (await fieldgate("coap", "peer", "list", "--filter", "session:yes credential:psk")).includes("c2"));
  await page.goto(`${CONSOLE}/coap?filter=session%3Ayes`);
  await see(page, "DTLS");
  await see(page, "pre-shared key");
  assert.match(await textOf(sentence(page)), /1 has a session or connection/);
  await press(page, "j");
  await see(page, /^TLS_PSK_WITH_AES_128/);
  await see(page, /^yes: the session goes on/);
  await inspect(page, "coap-session");
  await page.goto(`${CONSOLE}/settings?tab=installation`);
  await see(page, "CoAP listeners of the gateways");
  await see(page, /^1 done/);
  await inspect(page, "coap-listeners");

  at("the session is ended, with a reason");
  expect(/status of 404 .*\/api\/v1\/coap\/peers\//); // of the peer that is looked at
  await page.goto(`${CONSOLE}/coap?filter=session%3Ayes`);
  await see(page, "c2");
  await press(page, "j");
  await see(page, "End DTLS session");
  await press(page, "x");
  const question = page.getByRole("dialog", { name: "End the DTLS session of c2" });
  await question.getByLabel("Reason").fill("it holds an old key");
  await inspect(page, "coap-end-session");
  await question.getByRole("button", { name: "End the DTLS session" }).click();
  await see(page, "The DTLS session of c2 has ended");
  await see(page, "The gateway has forgotten this peer.");
  assert.notEqual(await left, 0, "the device is told");
  assert.match(await fieldgate("audit", "--filter", "action:coap-session.*"), /coap-session\.end.*c2/);
  assert.match(await fieldgate("audit", "--filter", "action:coap-observation.*"), /coap-observation\.end/);
});
