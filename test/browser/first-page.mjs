// What the first page weighs, and when it can be used: on a connection of its own, nothing cached.
import assert from "node:assert/strict";
import { at, button, CONSOLE, eventually, journey, visit } from "./harness.mjs";

const budget = 250 * 1024; // bytes as transferred: page, scripts, styles, fonts
const runs = 5;

journey("first-page", async (browser) => {
  const times = [];
  for (let run = 1; run <= runs; run++) {
    at(`run ${run}`);
    const page = await visit(browser, "about:blank");
    await page.addInitScript(() => {
      // It can be used once its sentence stands there and the browser has taken a turn to answer a person in.
      new MutationObserver((_, observer) => {
        if (!document.querySelector("h1 + p a")) return;
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => (window.usableAt = performance.now())));
      }).observe(document, { childList: true, subtree: true });
    });
    await page.goto(`${CONSOLE}/`);
    const usableAt = await eventually("the page can be used", () => page.evaluate(() => window.usableAt));
    times.push(usableAt);
    await button(page, /^Find anything/).filter({ visible: true }).click();
    await page.getByRole("dialog").waitFor();

    at("the weight of the first page");
    const files = await page.evaluate(() =>
      [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .filter((e) => !e.name.includes("/api/"))
        .map((e) => ({ name: new URL(e.name).pathname, start: e.startTime, bytes: e.encodedBodySize })));
    const first = files.filter((file) => file.start < usableAt);
    const sum = first.reduce((total, { bytes }) => total + bytes, 0);
    if (run === 1) console.log(`first page: ${(sum / 1024).toFixed(1)} KiB in ${first.length} files; later ${files.slice(first.length).map((f) => `${f.name} ${f.bytes}`).join(", ")}`);
    assert.ok(sum > 50 * 1024 && sum <= budget, JSON.stringify(first, null, 1));
  }
  console.log(`usable after ${times.map((t) => Math.round(t)).sort((a, b) => a - b).join(", ")} ms`);
});
