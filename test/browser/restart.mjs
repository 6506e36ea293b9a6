// A tab stays open while the node is killed and started again.
import assert from "node:assert/strict";
import { at, CONTROL, eventually, expect, gone, journey, owner, see, sentence, visit } from "./harness.mjs";

journey("restart", async (browser) => {
  expect(/ERR_CONNECTION_(REFUSED|RESET)|ERR_EMPTY_RESPONSE|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_SOCKET_NOT_CONNECTED/); // it is away for a while
  expect(/status of 401 .*\/api\/v1\/session\b/); // before the sign-in
  const page = await visit(browser, "/", { cookie: "" });
  await page.getByLabel("Name").fill(owner.name);
  await page.getByLabel("Password").fill(owner.password);
  await page.keyboard.press("Enter");
  await see(page, "Devices online");
  await page.locator("canvas").first().waitFor(); // the program of the charts is loaded when it is needed
  const traffic = await page.context().newPage();
  await traffic.goto(new URL("/traffic", page.url()).href);
  await see(traffic, /^Live$/);
  await page.evaluate(() => (window.before = true));
  await traffic.evaluate(() => (window.before = true));

  at("the node is killed: both tabs say so, and how old what they show is");
  await control("kill");
  for (const tab of [page, traffic]) await see(tab, /The connection to the node is lost.*What you see is \d+/);
  const banner = page.getByText("The connection to the node is lost");
  const age = await banner.innerText();
  await eventually("the age grows", async () => (await banner.innerText()) !== age);
  await see(page, "Devices online"); // the figures stay, under the banner

  at("the node is back: the tabs recover by themselves");
  await control("start");
  for (const tab of [page, traffic]) {
    await gone(tab, "The connection to the node is lost");
    assert.ok(await tab.evaluate(() => window.before), "the page was loaded anew");
  }
  await eventually("the sentence is whole", async () => /online/.test(await sentence(page).innerText()));
  await see(traffic, /^Live$/);
});

async function control(what) {
  const answer = await fetch(`${CONTROL}/${what}`, { method: "POST" });
  assert.ok(answer.ok);
}
