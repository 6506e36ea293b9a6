// The console's layers, from above: app, features, session, hooks and components, api, lib. Features do not know each other: what
// two of them need belongs below them.
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { expect, it } from "vitest";

const root = import.meta.dirname;
const below: Record<string, readonly string[]> = {
  app: ["features", "session", "hooks", "components", "api", "lib"],
  features: ["session", "hooks", "components", "api", "lib"],
  session: ["api", "lib"],
  hooks: ["components", "api", "lib"],
  components: ["hooks", "api", "lib"],
  api: ["lib"],
  lib: [],
};

const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((file) => /\.tsx?$/.test(file) && file.includes("/"));

it.each(files)("%s imports only what is below it", (file) => {
  const [layer, feature] = file.split("/") as [string, string];
  for (const [, target] of readFileSync(join(root, file), "utf8").matchAll(/(?:from|import\()\s*"((?:@\/|\.)[^"]+)"/g)) {
    const path = target!.startsWith("@/") ? target!.slice(2) : relative(root, join(root, file, "..", target!));
    if (path === "api/schema.gen") continue; // the contract's words, which all layers speak
    const [toLayer, toFeature] = path.split("/") as [string, string];
    if (toLayer === layer) {
      if (layer === "features") expect(toFeature, `${file} → ${target}`).toBe(feature);
    } else {
      expect(below[layer], `${file} → ${target}`).toContain(toLayer);
    }
  }
});
