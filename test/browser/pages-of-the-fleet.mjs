// Devices, apps and traffic of a living fleet, and the dialogs and menus, as pages have to be: see inspect.
import { admin, at, button, CONSOLE, eventually, inspect, inspectAll, journey, press, see, visit } from "./harness.mjs";

journey("pages-of-the-fleet", async (browser) => {
  const page = await visit(browser);
  await eventually("the fleet is denied something", async () => (await newest("kind:device status:denied")) !== undefined);
  const device = await newest("kind:device status:ok");
  await inspectAll(page, [
    ["devices", "/devices", /active/],
    ["devices-none", "/devices?filter=model:none-such", "No device fits."],
    ["device-drawer", `/devices?open=${device.principal}`, "Recent exchanges"],
    ["device", `/devices/${device.principal}`, "Recent exchanges"],
    ["apps", "/apps", "dashboard"],
    ["app-drawer", "/apps?open=dashboard", "Recent exchanges"],
    ["app", "/apps/dashboard", "Recent exchanges"],
    ["upstreams", "/upstreams", "therapy"],
    ["upstreams-none", "/upstreams?filter=name:none-such", "No upstream fits."],
    ["upstream-drawer", "/upstreams?open=ingest", "Addresses"],
    ["upstream", "/upstreams/ingest", /answers?\./],
    ["traffic", "/traffic", "Live"],
    ["traffic-operations", "/traffic?view=operations", "sendTelemetry"],
    ["traffic-undocumented", "/traffic?view=undocumented", "Undocumented"],
    ["traffic-findings", "/traffic?view=findings", "Findings"],
  ]);
  // The newest of the fleet are shown; on a long way here this one would have left them.
  const denied = await newest("kind:device status:denied");
  await inspectAll(page, [
    ["exchange-drawer", `/traffic?open=${encodeURIComponent(denied.instance)}`, /Denied with \d+/],
    ["exchange", `/traffic/${encodeURIComponent(denied.instance)}`, /Denied with \d+/],
  ]);

  at("dialogs and menus");
  await page.goto(`${CONSOLE}/devices`);
  await see(page, /active/);
  for (const [name, open] of [
    ["add-device", () => press(page, "n")],
    ["import-devices", () => button(page, "Import").click()],
    ["palette", () => press(page, "Control+k")],
    ["keys", () => press(page, "?")],
  ]) {
    at(`the dialog ${name}`);
    await open();
    await page.getByRole("dialog").waitFor();
    await inspect(page, name);
    await press(page, "Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
  }
  at("the account menu");
  await button(page, /Account of/).click();
  await page.getByRole("menu").waitFor();
  await inspect(page, "account");
});

/** The newest exchange that fits. */
async function newest(filter) {
  const { items } = await admin("GET", `/api/v1/traffic?limit=1&filter=${encodeURIComponent(filter)}`);
  return items[0];
}
