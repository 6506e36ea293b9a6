// Palette and keys; and the address is the state: back and forward keep it, and whoever opens a link sees the same.
import assert from "node:assert/strict";
import { admin, at, button, CONSOLE, eventually, gone, heading, journey, lead, press, see, visit } from "./harness.mjs";

journey("getting-around", async (browser) => {
  const page = await visit(browser);
  const address = (part) => eventually(`the address holds ${part}`, () => decodeURIComponent(page.url()).includes(part));
  await heading(page, "Now").waitFor();

  at("a node on this machine is asked also when the browser thinks that it is offline");
  await page.evaluate(() => dispatchEvent(new Event("offline")));
  await lead(page, "d", "Devices");
  await eventually("rows are there", async () => (await page.locator("[data-index]").count()) > 3);
  await page.evaluate(() => dispatchEvent(new Event("online")));

  at("the palette finds a page, a command and a device");
  const { items } = await admin("GET", "/api/v1/devices?limit=1&filter=state:active");
  await press(page, "Control+k");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.type("devices");
  await page.getByRole("option", { name: /^Devices/ }).first().waitFor();
  await press(page, "Enter");
  await heading(page, "Devices").waitFor();
  await press(page, "Control+k");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.type(items[0].id);
  const found = page.getByRole("option", { name: items[0].id });
  await found.waitFor();
  await found.click();
  await heading(page, `Device ${items[0].id}`).waitFor();

  at("? shows the keys, Esc puts them away");
  await press(page, "?");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await see(page, "Find anything");
  await press(page, "Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });

  at("two keys lead to each page");
  for (const [key, name] of [["n", "Now"], ["a", "APIs"], ["d", "Devices"], ["p", "Apps"], ["t", "Traffic"], ["s", "Settings"]]) {
    await lead(page, key, name);
  }

  at("filter, range and drawer are in the address");
  await lead(page, "d", "Devices");
  await button(page, /Time range/).click();
  await page.getByRole("menuitemradio", { name: "Last 1 hour" }).click();
  await address("range=1h");
  await press(page, "/");
  await page.keyboard.type("state:active");
  await press(page, "Enter", "Escape", "Escape");
  await address("filter=state:active");
  await eventually("rows are there", async () => (await page.locator("[data-index]").count()) > 3);
  await press(page, "j");
  await address("open=");
  const drawer = page.getByRole("complementary", { name: "Details" });
  const title = () => drawer.getByRole("heading").first().innerText();
  const first = await title();
  await press(page, "j");
  await eventually("the next device is open", async () => (await title()) !== first);
  const second = await title();
  await press(page, "k");
  await eventually("the device before is open again", async () => (await title()) === first);
  await press(page, "Enter");
  await heading(page, `Device ${first}`).waitFor();
  await address("range=1h");

  at("back and forward");
  await page.goBack();
  await drawer.waitFor();
  assert.equal(await title(), first);
  await address("filter=state:active");
  await page.goBack();
  await drawer.waitFor({ state: "detached" });
  await address("filter=state:active");
  await page.goForward();
  await drawer.waitFor();
  await press(page, "Escape");
  await drawer.waitFor({ state: "detached" });
  assert.equal(await page.getByRole("combobox", { name: "Filter" }).inputValue(), "state:active");

  at("a link shows a colleague the same");
  await page.goto(`${CONSOLE}/devices?filter=state:active&range=1h&open=${second}`);
  await drawer.waitFor();
  const colleague = await visit(browser, page.url());
  await colleague.getByRole("complementary", { name: "Details" }).getByRole("heading", { name: second }).waitFor();
  assert.equal(await colleague.getByRole("combobox", { name: "Filter" }).inputValue(), "state:active");
  await button(colleague, /Time range: Last 1 hour/).waitFor();

  at("a filter that the list does not know says so and is not sent");
  await page.getByRole("combobox", { name: "Filter" }).fill("colour:red");
  await see(page, /colour/);
  await eventually("the field is marked", () => page.locator('[role=combobox][aria-invalid="true"]').count());
  await gone(page, "No device fits.");
});
