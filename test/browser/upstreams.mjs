// An address of a service is registered, dies and comes back: the page says so by itself, and so does Now. Whoever may puts it in and takes
// it out there, and back again.
import assert from "node:assert/strict";
import { mkdtemp, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { admin, at, button, CONSOLE, eventually, expect, fieldgate, gone, inspect, journey, listener, operator, owner, lead, press, see, sentence, tabTo, textOf, visit } from "./harness.mjs";

journey("upstreams", async (browser) => {
  at("an upstream without an address");
  expect(/status of 401 .*\/api\/v1\/session\b/); // before the sign-in
  const page = await visit(browser, "/upstreams/therapy", { cookie: "" });
  await page.getByLabel("Name").fill(owner.name);
  await page.getByLabel("Password").fill(owner.password);
  await page.keyboard.press("Enter");
  await see(page, "It has no address, so its calls cannot be carried out.");

  at("its address is registered, by keys alone, once it is written as it must be");
  const listen = (port) => new Promise((ready) => {
    const server = createServer((_, answer) => answer.end("well"));
    server.listen(port, "127.0.0.1", () => ready(server));
    server.unref(); // a journey that fails does not wait for it
  });
  let service = await listen(0);
  const { port } = service.address();
  const address = `http://127.0.0.1:${port}`;
  await inspect(page, "upstream-without-address");
  await press(page, "n");
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Address", { exact: true }).waitFor();
  await page.keyboard.type("127.0.0.1");
  await press(page, "Enter");
  await see(page, "Write http://HOST:PORT or https://HOST:PORT, without a path.");
  await inspect(page, "upstream-register");
  await page.keyboard.press("Control+A");
  await page.keyboard.type(address);
  await tabTo(page, "Time to live");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("10m");
  await see(page, `fieldgate upstream register therapy ${address} --ttl 10m`);
  await press(page, "Enter");
  await see(page, `${address} is registered`);
  await see(page, "Its address answers.");
  await see(page, /expires in (10|9) min/);
  await see(page, /^Registered: /); // in its decisions

  at("it dies");
  service.closeAllConnections();
  await new Promise((closed) => service.close(closed));
  await see(page, /^1 of 1 address is unhealthy/);
  await see(page, /connection refused/);
  await inspect(page, "upstream-down");

  at("the list and Now say so");
  await page.goto(`${CONSOLE}/upstreams`);
  await see(page, "down");
  await eventually("the sentence counts it", async () => /2 upstreams\. 1 of them needs a look\./.test(await textOf(sentence(page))));
  await inspect(page, "upstreams-down");
  await page.goto(`${CONSOLE}/settings?tab=installation`);
  await see(page, /1 of 1 addresses of therapy is unhealthy on n1/);
  await page.goto(CONSOLE);
  await see(page, /1 of 1 addresses of therapy is unhealthy on n1/);
  await see(page, /\d urgent/);
  await page.getByRole("link", { name: "Show therapy" }).click();
  await see(page, /^1 of 1 address is unhealthy/);

  at("it comes back");
  service = await listen(port);
  await see(page, "Its address answers.");
  await lead(page, "u", "Upstreams");
  await eventually("the sentence is glad", async () => /Every address answers\./.test(await textOf(sentence(page))));

  at("it is changed, and changed back");
  await page.goto(`${CONSOLE}/upstreams/therapy`);
  const choose = async (what) => {
    await button(page, `What can be decided about ${address}`).click();
    await page.getByRole("menuitem", { name: what }).click();
  };
  await choose("Change");
  await dialog.getByLabel("Zone").fill("hall-3");
  await dialog.getByLabel("Weight").fill("3");
  await button(dialog, "Change").click();
  await see(page, "zone hall-3, weight 3");
  await button(page, "Undo").click();
  await gone(page, "zone hall-3, weight 3");

  at("it is taken out, and put back as it was");
  await choose("Remove");
  await dialog.getByText("It is the only address of therapy").waitFor();
  await see(page, `fieldgate upstream remove therapy ${address}`);
  await inspect(page, "upstream-remove");
  await button(dialog, "Remove").click();
  await see(page, "It has no address, so its calls cannot be carried out.");
  await button(page, "Undo").click();
  await see(page, "Its address answers.");
  const [{ target }] = (await admin("GET", "/api/v1/upstreams/therapy")).addresses;
  assert.equal(target.ttlSeconds, 600);
  await inspect(page, "upstream-registered");

  at("a developer sees it, and may not change it");
  const other = await visit(browser, "/upstreams/therapy", { cookie: await operator("dora", "developer") });
  await see(other, address);
  assert.equal(await button(other, "Register an address").getAttribute("aria-disabled"), "true");
  assert.equal(await button(other, /^What can be decided/).count(), 0);

  at("it leaves");
  await admin("DELETE", `/api/v1/upstreams/therapy/targets/${encodeURIComponent(address)}`);
  await see(page, "no address");
  service.close();
  await page.goto(CONSOLE);
  await see(page, /registered an address of the upstream therapy/);

  at("an operation goes to an upstream that no gateway has");
  const contract = join(await mkdtemp(join(tmpdir(), "fieldgate-upstreams-")), "old.yaml");
  await writeFile(contract, "fieldgate: pass-through\ninfo: {title: Old, version: 1.0.0}\naccess: anonymous\nhttp: [{prefix: /old, upstream: nowhere}]\n");
  await fieldgate("api", "publish", contract);
  assert.equal((await fetch(`http://${await listener("http")}/old/x`)).status, 502);
  await see(page, /No gateway has the upstream nowhere, to which/);
  await fieldgate("api", "retire", "old");
});
