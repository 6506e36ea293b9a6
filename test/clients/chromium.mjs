// chromium.mjs STEP SETTINGS: runs one step of the scenario in Debian's Chromium, in the page whose address the settings have.
import { createRequire } from 'node:module';

const { chromium } = createRequire(new URL('../../console/package.json', import.meta.url))('playwright-core'); // the console's packages are the tests' too

const [, , step, text] = process.argv;
const { page: address, ...settings } = JSON.parse(text);
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: process.getuid() === 0 ? ['--no-sandbox'] : [] });
try {
  const page = await browser.newPage();
  await page.goto(address);
  await page.evaluate(async ([step, settings]) => {
    const from = (file) => import(new URL(file, location.href).href);
    const [{ default: mqtt }, { Scenario }] = await Promise.all([from('mqtt.esm.js'), from('scenario.mjs')]);
    await new Scenario(mqtt, settings)[step]();
  }, [step, settings]);
} finally {
  await browser.close();
}
