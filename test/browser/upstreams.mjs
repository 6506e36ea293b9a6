// A service registers its address, dies and comes back: the page says so by itself, and so does Now.
import { createServer } from "node:http";
import { admin, at, CONSOLE, eventually, expect, inspect, journey, owner, press, see, sentence, textOf, visit } from "./harness.mjs";

journey("upstreams", async (browser) => {
  at("an upstream without an address");
  expect(/status of 401 .*\/api\/v1\/session\b/); // before the sign-in
  const page = await visit(browser, "/upstreams/therapy", { cookie: "" });
  await page.getByLabel("Name").fill(owner.name);
  await page.getByLabel("Password").fill(owner.password);
  await page.keyboard.press("Enter");
  await see(page, "It has no address, so its calls cannot be carried out.");

  at("a service registers its address");
  const listen = (port) => new Promise((ready) => {
    const server = createServer((_, answer) => answer.end("well"));
    server.listen(port, "127.0.0.1", () => ready(server));
  });
  let service = await listen(0);
  const { port } = service.address();
  const address = `http://127.0.0.1:${port}`;
  await admin("PUT", `/api/v1/upstreams/therapy/targets/${encodeURIComponent(address)}`, { ttlSeconds: 600 });
  await see(page, "Its address answers.");
  await see(page, address);

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
  await page.getByRole("link", { name: "Show therapy" }).click();
  await see(page, /^1 of 1 address is unhealthy/);

  at("it comes back");
  service = await listen(port);
  await see(page, "Its address answers.");
  await press(page, "g", "u");
  await eventually("the sentence is glad", async () => /Every address answers\./.test(await textOf(sentence(page))));

  at("it leaves");
  await admin("DELETE", `/api/v1/upstreams/therapy/targets/${encodeURIComponent(address)}`);
  await see(page, "no address");
  service.close();
});
