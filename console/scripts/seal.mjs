// After `vite build`: checks that the page and everything it names is there and that the first page is small enough, then puts a
// compressed copy beside each text file, which the node serves as it is.
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const root = join(import.meta.dirname, "../dist/app");
const firstPageBudget = 250 * 1024; // gzip: scripts, styles and the text font that the first paint loads

const page = readFileSync(join(root, "index.html"), "utf8");
const named = [...page.matchAll(/(?:src|href)="\/([^"]+)"/g)].map(([, path]) => path);
const missing = named.filter((path) => !existsSync(join(root, path)));
if (named.length === 0 || missing.length > 0) throw new Error(`index.html names what is not there: ${missing.join(", ") || "no script"}`);
if (/<script(?![^>]*\ssrc=)/.test(page) || /<style|\sstyle=/.test(page)) throw new Error("index.html has inline code, which the content security policy refuses");

for (const path of readdirSync(root, { recursive: true, encoding: "utf8" })) {
  if (/\.(?:js|css|html|svg)$/.test(path)) writeFileSync(join(root, `${path}.gz`), gzipSync(readFileSync(join(root, path)), { level: 9 }));
}

const size = (path) => statSync(join(root, existsSync(join(root, `${path}.gz`)) ? `${path}.gz` : path)).size;
const assets = readdirSync(join(root, "assets"));
// The first page of who is signed in is Now: its chunk, and what that imports statically, come with it.
const first = new Set([...named, "index.html"]);
const follow = (path) => {
  if (first.has(path)) return;
  first.add(path);
  for (const [, name] of readFileSync(join(root, path), "utf8").matchAll(/from"\.\/([^"]+\.js)"/g)) follow(`assets/${name}`);
};
for (const name of assets) if (/^NowPage-.*\.(?:js|css)$/.test(name)) follow(`assets/${name}`);
for (const name of assets) if (/^inter-.*\.woff2$/.test(name)) first.add(`assets/${name}`);

const total = [...first].reduce((sum, path) => sum + size(path), 0);
for (const path of [...first].sort((a, b) => size(b) - size(a))) console.log(`  ${String(size(path)).padStart(7)}  ${path}`);
console.log(`first page: ${(total / 1024).toFixed(1)} KiB of ${firstPageBudget / 1024}; ${assets.length} assets`);
if (total > firstPageBudget) throw new Error("the first page is larger than its budget");
