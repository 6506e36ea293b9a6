// Now, what is published, and the settings, with a living fleet behind them, as pages have to be: see inspect.
import { inspectAll, journey, visit } from "./harness.mjs";

journey("pages-of-contracts", async (browser) => {
  await inspectAll(await visit(browser), [
    ["now", "/", "Devices online"],
    ["apis", "/apis", "thermo"],
    ["api", "/apis/thermo", /active/],
    ["api-reference", "/apis/thermo?tab=reference", "Hand in one reading"],
    ["api-reference-async", "/apis/tracker?tab=reference", "Follow a vehicle"],
    ["api-versions", "/apis/thermo?tab=versions", /SHA-256/],
    ["api-findings", "/apis/thermo?tab=findings", /active/],
    ["api-history", "/apis/thermo?tab=history", /active/],
    ["api-pass-through", "/apis/legacy-fleet", "unchecked"],
    ["api-built-in", "/apis/fieldgate?tab=reference", "built in"],
    ["publish", "/apis/publish", "Choose a file"],
    ["draft", "/apis/draft?filter=since:24h", "Draft a contract"],
    ["settings-operators", "/settings", "Operators"],
    ["settings-tokens", "/settings?tab=tokens", "API tokens"],
    ["settings-sessions", "/settings?tab=sessions", "Sessions"],
    ["settings-audit", "/settings?tab=audit", "Audit log"],
    ["settings-installation", "/settings?tab=installation", "Installation"],
    ["settings-account", "/settings?tab=account", "My account"],
    ["settings-about", "/settings?tab=about", "About"],
    ["not-found", "/nowhere", "There is no such page."],
  ]);
});
