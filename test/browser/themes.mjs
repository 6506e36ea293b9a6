// Light, dark, and as the system is; and nothing moves for who asked for that.
import assert from "node:assert/strict";
import { at, button, CONSOLE, eventually, heading, journey, press, see, visit } from "./harness.mjs";

journey("themes", async (browser) => {
  const page = await visit(browser);
  await heading(page, "Now").waitFor();
  const brightness = () => page.evaluate(() => {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.fillStyle = getComputedStyle(document.documentElement).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data.slice(0, 3).reduce((sum, part) => sum + part) / 765;
  });
  const looks = (theme) => eventually(`it looks ${theme}`, async () => ((await brightness()) > 0.5) === (theme === "light"));
  const choose = async (name) => {
    await button(page, /Account of/).click();
    await page.getByRole("menuitemradio", { name }).click();
  };

  at("as the system is, and with it");
  await looks("light");
  await page.emulateMedia({ colorScheme: "dark" });
  await looks("dark");

  at("chosen, it stays, from the first paint on");
  await choose("Light");
  await looks("light");
  await page.addInitScript(() => {
    window.themes = [];
    new MutationObserver(() => window.themes.push(document.documentElement.dataset.theme)).observe(document, { childList: true, subtree: true });
  });
  await page.reload();
  await heading(page, "Now").waitFor();
  await looks("light");
  assert.ok(await page.evaluate(() => document.querySelector("main") && window.themes.at(-1) === "light"));
  await page.emulateMedia({ colorScheme: "light" });
  await choose("Dark");
  await looks("dark");
  await choose("Like the system");
  await looks("light");

  at("reduced motion: nothing is animated");
  await page.emulateMedia({ reducedMotion: "reduce" });
  await page.goto(`${CONSOLE}/devices`);
  await see(page, /active/);
  await page.evaluate(() => {
    window.moved = [];
    for (const type of ["animationstart", "transitionrun"]) {
      document.addEventListener(type, (event) => {
        const style = getComputedStyle(event.target, event.pseudoElement || null);
        if (parseFloat(style.animationDuration) > 0 || parseFloat(style.transitionDuration) > 0) window.moved.push(`${type} ${event.target.className}`);
      }, true);
    }
  });
  await press(page, "j");
  await see(page, "Recent exchanges");
  await press(page, "Control+k");
  await page.getByRole("dialog").waitFor();
  await press(page, "Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.deepEqual(await page.evaluate(() => window.moved), []);
  assert.deepEqual(await page.evaluate(() => document.getAnimations().filter((a) => a.playState === "running").length), 0);

  at("otherwise it is, and briefly");
  await page.emulateMedia({ reducedMotion: "no-preference" });
  const longest = await page.evaluate(() => Math.max(...[...document.querySelectorAll("*")].flatMap((e) => getComputedStyle(e).animationDuration.split(",").map(parseFloat))));
  assert.ok(longest > 0 && longest <= 0.15, `${longest} s`);
});
