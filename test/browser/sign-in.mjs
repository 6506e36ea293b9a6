// The first sign-in: by the link, once; then the installation gets an owner, who comes back with name and password.
import assert from "node:assert/strict";
import { at, button, CONSOLE, eventually, expect, fieldgate, heading, inspect, journey, owner, see, gone, visit } from "./harness.mjs";

journey("sign-in", async (browser) => {
  expect(/status of 401 .*\/api\/v1\//); // nobody is signed in, the password is wrong, or a session has just made way for another
  const [link, unused] = [await fieldgate("sign-in", "--quiet"), await fieldgate("sign-in", "--quiet")];
  const token = link.split("#token=")[1];

  at("the sign-in page says where the token is");
  const before = await visit(browser, "/", { cookie: "" });
  await see(before, "Nobody owns this installation yet.");
  await see(before, /sign-in\.token$/);
  await inspect(before, "sign-in-unclaimed");

  at("the link signs in, and its token leaves the address");
  const addresses = [];
  const page = await visit(browser, "about:blank", { cookie: "" });
  page.on("request", (request) => addresses.push(request.url(), request.headers().referer ?? ""));
  page.on("framenavigated", (frame) => addresses.push(frame.url() === link ? "" : frame.url()));
  await page.goto(link);
  await see(page, "Nobody owns this installation yet.");
  assert.equal(page.url(), `${CONSOLE}/`);
  assert.deepEqual(addresses.filter((address) => address.includes(token)), []);
  assert.ok(!(await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, history.state]))).includes(token));

  at("the same link again says why it does not work, and what to do"); // as one that is too old: they are not told apart
  const again = await visit(browser, link, { cookie: "" });
  await again.getByRole("alert").getByText(/works once, and for a limited time/).waitFor();
  assert.equal(again.url(), `${CONSOLE}/`);
  await inspect(again, "sign-in-used-link");

  at("the dialog for the owner refuses a weak password");
  await button(page, "Create your account").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill(owner.name);
  await dialog.getByLabel("Password", { exact: true }).fill("short");
  await dialog.getByLabel("Password again").fill("short");
  await button(dialog, "Create the account").click();
  await eventually("the password field says what is wrong", () => dialog.locator('[aria-invalid="true"]').count());
  await inspect(page, "claim");

  at("the owner is there");
  await dialog.getByLabel("Password", { exact: true }).fill(owner.password);
  await dialog.getByLabel("Password again").fill(owner.password);
  await button(dialog, "Create the account").click();
  await see(page, `This installation is ${owner.name}'s now.`);
  await gone(page, "Nobody owns this installation yet.");

  at("a link from before the owner no longer signs in");
  const late = await visit(browser, unused, { cookie: "" });
  await late.getByRole("alert").waitFor();

  at("sign out");
  await button(page, /Account of/).click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  await heading(page, "Sign in").waitFor();
  await inspect(page, "sign-in");

  at("a wrong password");
  await page.getByLabel("Name").fill(owner.name);
  await page.getByLabel("Password").fill("correct horse");
  await button(page, "Sign in").click();
  await page.getByRole("alert").getByText(/password/).first().waitFor();
  await inspect(page, "sign-in-wrong");

  at("the right one, and the page that the address names");
  await page.goto(`${CONSOLE}/?range=1h`);
  await page.getByLabel("Name").fill(owner.name);
  await page.getByLabel("Password").fill(owner.password);
  await page.keyboard.press("Enter");
  await heading(page, "Now").waitFor();
  assert.equal(page.url(), `${CONSOLE}/?range=1h`);
});
