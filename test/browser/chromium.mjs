// One Chromium for all journeys: says its address, and ends when its standard input does.
import { chromium } from "./harness.mjs";

const server = await chromium.launchServer({ executablePath: process.env.CHROMIUM, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
console.log(server.wsEndpoint());
process.stdin.resume().on("end", async () => {
  await server.close();
  process.exit();
});
