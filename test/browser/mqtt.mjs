// A device appears by MQTT: its session is inspected, disconnected, and it comes back. What it publishes is watched live, and what is
// retained is looked at and deleted. Nobody without the scope sees a payload.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { admin, at, button, CONFIG, CONSOLE, eventually, examples, expect, FIELDGATE, fieldgate, inspect, inspectAll, journey, operator, owner, press, see, sentence, textOf, visit } from "./harness.mjs";

const client = "t1/main";

journey("mqtt", async (browser) => {
  await fieldgate("api", "publish", new URL("tracker.asyncapi.yaml", examples).pathname);
  const folder = await mkdtemp(join(tmpdir(), "fieldgate-mqtt-"));
  const token = join(folder, "t1.token");
  await writeFile(token, await fieldgate("device", "add", "t1", "--quiet"), { mode: 0o600 });
  const publish = (topic, payload, ...more) => fieldgate("mqtt", "pub", topic, JSON.stringify(payload), "--token-file", token, ...more);
  const connect = () => {
    const process = spawn(FIELDGATE, ["mqtt", "sub", "tracker/t1/commands", "--token-file", token, "--client-id", client, "--session-expiry", "1h", "--timeout", "15m", "--config", CONFIG]);
    for (const part of [process, process.stdout, process.stderr]) part.unref(); // a journey that fails does not wait for it
    let said = "";
    process.stderr.on("data", (data) => (said += data));
    return { process, ended: new Promise((done) => process.on("exit", (code) => done({ code, said }))) };
  };

  at("nobody is there, and the page says how one comes");
  expect(/status of 401 .*\/api\/v1\/session\b/); // before the sign-in
  const page = await visit(browser, "/mqtt", { cookie: "" });
  await page.getByLabel("Name").fill(owner.name);
  await page.getByLabel("Password").fill(owner.password);
  await page.keyboard.press("Enter");
  await see(page, "No client is connected by MQTT, or has a session.");
  await inspect(page, "mqtt-sessions-empty");
  await inspectAll(page, [["mqtt-topics-empty", "/mqtt/topics", "No topic is known yet."], ["mqtt-retained-empty", "/mqtt/retained", "There is no retained message."]]);

  at("a device appears");
  const first = connect();
  await page.goto(`${CONSOLE}/devices/t1`);
  await page.getByRole("link", { name: "Its sessions" }).click();
  await eventually("its session is listed", async () => {
    if (await page.getByText(client).filter({ visible: true }).count()) return true;
    await page.reload();
    await page.locator("h1").waitFor();
    await see(page, /session|client/);
  });
  await see(page, "connected");
  assert.match(await textOf(sentence(page)), /^1 session: 1 connected, 0 away\./);
  await inspect(page, "mqtt-sessions");

  at("its session is inspected, by keys");
  await press(page, "j");
  await see(page, "tracker/t1/commands");
  await press(page, "Enter");
  await see(page, /^Connected, since /);
  await see(page, "version 5, keep-alive 60 s");
  await inspect(page, "mqtt-session");

  at("it is disconnected, with a reason");
  await press(page, "x");
  const dialog = page.getByRole("dialog");
  await dialog.getByText(/its session with 1 subscription stays/).waitFor();
  await inspect(page, "mqtt-disconnect");
  await dialog.getByLabel("Reason").fill("it is in the way");
  await press(page, "Enter");
  await see(page, `${client} is disconnected`);
  const { code, said } = await first.ended;
  assert.equal(code, 1);
  assert.match(said, /administrative action \(0x98\)/);
  await see(page, /^Away, since /);
  await see(page, /it is in the way/); // in its decisions

  at("it comes back");
  const second = connect();
  await see(page, /^Connected, since /);

  at("its messages are watched live");
  await page.goto(`${CONSOLE}/mqtt/live`);
  await page.getByLabel("Topic filter").fill("tracker/+#");
  await see(page, /stands alone and last/);
  await page.getByLabel("Topic filter").fill("tracker/+/position");
  await page.keyboard.press("Enter");
  await see(page, /^Listening on 1 gateway/);
  await publish("tracker/t1/position", { ts: "2026-11-23T09:00:00Z", lat: 52.5, lon: 13.4 });
  await see(page, /"lat": 52.5/);
  await see(page, /1 message\b/);
  await inspect(page, "mqtt-live");
  await button(page, "Stop").click();
  await see(page, "Nobody watches.");

  at("topics are a tree with rates");
  await page.goto(`${CONSOLE}/mqtt/topics`);
  await see(page, /messages a second/); // from now on they are counted
  await publish("tracker/t1/position", { ts: "2026-11-23T09:01:00Z", lat: 52.5, lon: 13.5 });
  await publish("tracker/t1/status", { state: "online", battery: 80 }, "--retain");
  await button(page, /^tracker\s*1 below$/).click();
  await button(page, /^t1\s*2 below$/).click();
  await page.getByText("status", { exact: true }).waitFor();
  await inspect(page, "mqtt-topics");

  at("a retained message is looked at, and deleted");
  await page.getByRole("link", { name: "1 retained on tracker/t1/status" }).click();
  await page.getByRole("cell", { name: "tracker/t1/status" }).waitFor();
  await press(page, "j");
  await see(page, /stands in the audit log/);
  await button(page, "Show payload").click();
  await see(page, /"battery": 80/);
  await inspect(page, "mqtt-retained");
  const developer = await visit(browser, "/mqtt/retained?open=tracker%2Ft1%2Fstatus", { cookie: await operator("mara", "developer") });
  await see(developer, "tracker/t1/status");
  assert.equal(await button(developer, "Show payload").getAttribute("aria-disabled"), "true");
  await developer.goto(`${CONSOLE}/mqtt/live`);
  await see(developer, /may not look at payloads/);
  await button(page, "Delete").click();
  await button(dialog, "Delete").click();
  await see(page, "No retained message fits.");

  at("the session is ended, once its name is typed");
  expect(/status of 404 .*\/api\/v1\/mqtt\/sessions\//); // it is asked for once more
  const [session] = (await admin("GET", "/api/v1/mqtt/sessions?filter=device:t1")).items;
  await page.goto(`${CONSOLE}/mqtt/sessions/${encodeURIComponent(session.id)}`);
  await button(page, "End session").click();
  await dialog.getByLabel(`Type ${client} to confirm`).fill(client);
  await inspect(page, "mqtt-end");
  await button(dialog, "End the session").click();
  await see(page, `The session of ${client} has ended`);
  await second.ended;
  await see(page, "This session has ended.");
  await fieldgate("api", "retire", "tracker");
});
