// What every journey uses: pages that are watched, steps that have names, and the checks that hold on every page.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { promisify } from "node:util";

const require = createRequire(new URL("../../console/package.json", import.meta.url)); // the console's packages are the tests' too
export const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/** Where everything is; the Go test says so. */
export const { BROWSER, CONFIG, CONSOLE, CONTROL, FIELDGATE, OPERATOR_TOKEN, OWNER_COOKIE, PATIENCE, SCREENSHOTS } = process.env;
export const owner = { name: "ana", password: "correct horse battery" };
export const examples = new URL("../../examples/", import.meta.url);

const patience = Number(PATIENCE); // ms; a bound for what has to happen, no measurement
const wide = { width: 1440, height: 900 };
const narrow = { width: 390, height: 844 };

let step = "beginning";
const contexts = [];
const consoleLog = [];
const wrong = []; // what the browser complained about, requests to elsewhere, and what an inspection found
// Patterns of console errors that belong to the journey; and a machine whose network changes ends what a browser is asking for.
const expected = [/net::ERR_NETWORK_CHANGED/];

/** Runs one journey, and says where it ended when it fails. */
export async function journey(name, tell) {
  const browser = await chromium.connect(BROWSER);
  try {
    await tell(browser);
    step = "the end: nothing may be wrong with what was looked at, stand in the console, or be asked for elsewhere";
    assert.deepEqual(wrong, []);
  } catch (error) {
    process.exitCode = 1;
    console.log(`FAILED at: ${step}\n${error.stack ?? error}`);
    for (const [i, page] of contexts.flatMap((context) => context.pages()).entries()) {
      const path = join(SCREENSHOTS, `failed-${name}-${i + 1}.png`);
      await page.screenshot({ path, timeout: 10_000 }).then(() => console.log(`${page.url()} is in ${path}`), (e) => console.log(`no screenshot: ${e.message}`));
    }
    console.log(`console of the browser:\n${consoleLog.join("\n") || "(empty)"}`);
  } finally {
    await browser.close();
  }
}

/** The following belongs to this step. */
export function at(name) {
  step = name;
}

/** A window of its own, as another person at another machine has it: signed in as owner, unless a cookie (or none) is given. */
export async function visit(browser, path = "/", { cookie = OWNER_COOKIE, viewport = wide, ...options } = {}) {
  const context = await browser.newContext({ viewport, colorScheme: "light", locale: "en-GB", ...options });
  contexts.push(context);
  context.setDefaultTimeout(patience);
  if (cookie) await context.addCookies([{ ...cookieOf(cookie), url: CONSOLE }]);
  context.on("console", (message) => {
    const text = `${message.type()}: ${message.text()} (${message.location().url})`;
    consoleLog.push(text);
    if (message.type() === "error" && !expected.some((pattern) => pattern.test(text))) wrong.push(text);
  });
  context.on("weberror", (error) => wrong.push(`error: ${error.error().stack}`));
  context.on("request", (request) => {
    if (!request.url().startsWith(`${CONSOLE}/`) && !/^(data|blob):/.test(request.url())) wrong.push(`request to elsewhere: ${request.url()}`);
  });
  const page = await context.newPage();
  await page.goto(new URL(path, CONSOLE).href);
  return page;
}

function cookieOf(text) {
  const [name, ...value] = text.split("=");
  return { name, value: value.join("=") };
}

/** A browser writes every refused request to its console: this journey has some that look so. */
export function expect(...patterns) {
  expected.push(...patterns);
}

/** Asks again until the answer is yes. */
export async function eventually(what, ask) {
  for (const end = Date.now() + patience; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`it never came to this: ${what}`);
  }
}

export const see = (page, text) => page.getByText(text).filter({ visible: true }).first().waitFor();
export const gone = (page, text) => eventually(`"${text}" is gone`, async () => (await page.getByText(text).filter({ visible: true }).count()) === 0);
export const button = (page, name) => page.getByRole("button", { name, exact: typeof name === "string" });
export const heading = (page, name) => page.getByRole("heading", { name });
export const textOf = async (locator) => (await locator.innerText()).replace(/\s+/g, " ");
export const sentence = (page) => page.locator("h1 + p");

/** Presses keys as a person does, who has seen the page first. */
export async function press(page, ...keys) {
  for (const key of keys) {
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve)))));
    await page.keyboard.press(key);
  }
}

/** Presses g and a key until the page that they lead to is there: on a busy machine the second may come too late to belong to the first. */
export async function lead(page, key, title) {
  await eventually(`g ${key} leads to ${title}`, async () => {
    await press(page, "g");
    await page.keyboard.press(key);
    return heading(page, title).first().waitFor({ timeout: 5_000 }).then(() => true, () => false);
  });
}

/** Presses Tab until the focus is on what is called so. */
export async function tabTo(page, name, key = "Tab") {
  for (let i = 0; i < 300; i++) {
    const focused = await page.evaluate(() => {
      const e = document.activeElement;
      return e?.getAttribute("aria-label") || e?.labels?.[0]?.innerText || e?.innerText || "";
    });
    if (typeof name === "string" ? focused.trim() === name : name.test(focused.trim())) return;
    await page.keyboard.press(key);
  }
  throw new Error(`no way by ${key} to ${name}`);
}

/** The admin API with the operator token of the data folder, for what is not the journey's subject. */
export async function admin(method, path, body, headers = {}) {
  const answer = await fetch(CONSOLE + path, {
    method,
    headers: { Authorization: `Bearer ${OPERATOR_TOKEN}`, ...(body && { "Content-Type": "application/json" }), ...headers },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}

/** Signs an operator with this role up, and gives the cookie of their session. */
export async function operator(name, role) {
  const { token } = await admin("POST", "/api/v1/operators", { name, role });
  const ask = async (method, path, body, cookie) => {
    const answer = await fetch(CONSOLE + path, {
      method,
      headers: { "Content-Type": "application/json", Origin: CONSOLE, ...(cookie && { Cookie: cookie }) },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.headers.getSetCookie()[0].split(";")[0];
  };
  const invited = await ask("POST", "/api/v1/session", { token });
  return ask("PUT", "/api/v1/session/password", { password: owner.password }, invited);
}

/** The command line at the same installation. */
export async function fieldgate(...args) {
  const { stdout } = await promisify(execFile)(FIELDGATE, [...args, "--config", CONFIG], { maxBuffer: 1 << 26 });
  return stdout.trim();
}

/** An address of the gateway: http, mqtt or coap. */
export async function listener(name) {
  const { listeners } = await admin("GET", "/api/v1/status");
  return listeners.find((l) => l.name === name).address;
}

/** Holds on every page, wide and narrow, and dark: nothing that axe-core knows to be wrong, no sideways scrolling. Keeps screenshots. */
export async function inspect(page, name) {
  const before = step;
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
  for (const [size, viewport, themes] of [["1440", wide, ["light", "dark"]], ["390", narrow, ["light"]]]) {
    await page.setViewportSize(viewport);
    for (const colorScheme of themes) {
      at(`${before}: ${name}, ${colorScheme}, ${size} px`);
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await settled(page);
      await page.screenshot({ path: join(SCREENSHOTS, `${name}-${size}-${colorScheme}.png`) });
      const violations = await page.evaluate(async (dark) => {
        // Themes differ in colours and in nothing else.
        const runOnly = dark ? ["color-contrast", "link-in-text-block"] : undefined;
        const result = await window.axe.run(document, { resultTypes: ["violations"], ...(runOnly && { runOnly }) });
        return result.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => `${n.target.join(" ")} ${n.html.slice(0, 160)} ${n.any[0]?.message ?? ""}`).join(" | ")}`);
      }, colorScheme === "dark");
      const sideways = await page.evaluate(() => {
        const scrolls = (e) => e.scrollWidth > e.clientWidth + 1;
        // Wide tables of data and source text may scroll in a place of their own; what holds a page may not.
        const places = [...document.querySelectorAll("main, main [role=group], aside, [role=dialog], [role=dialog] *")].filter(
          (e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowY) && !e.querySelector(":scope > table, :scope > .font-mono"));
        return [document.documentElement, document.body, ...places].filter(scrolls).map((e) => `${e.tagName} ${e.getAttribute("aria-label") ?? ""} ${e.scrollWidth} > ${e.clientWidth}`);
      });
      wrong.push(...[...violations, ...sideways.map((s) => `scrolls sideways: ${s}`)].map((text) => `${name} ${size} ${colorScheme}: ${text}`));
    }
  }
  await page.setViewportSize(wide);
  await page.emulateMedia({ colorScheme: "light", reducedMotion: null });
  step = before;
}

/** Opens pages one after another, waits for words on each, and inspects it. */
export async function inspectAll(page, pages) {
  for (const [name, path, words] of pages) {
    at(`the page ${path}`);
    await page.goto(CONSOLE + path);
    await page.locator("h1").waitFor();
    await see(page, words);
    await inspect(page, name);
  }
}

/** Fonts are there, nothing waits, and the browser has drawn it. */
async function settled(page) {
  await page.evaluate(async () => {
    await document.fonts.ready;
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  });
  await eventually("the page waits for nothing", () => page.evaluate(() => !document.querySelector('.appear-late, [aria-busy="true"]')));
}
