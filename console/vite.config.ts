import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// `npm run dev` shows the console from its sources and passes API calls on to a running node.
const node = process.env.FIELDGATE_ADMIN ?? "http://127.0.0.1:8090";

export default defineConfig({
  plugins: [react(), tailwindcss()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  server: {
    host: "127.0.0.1",
    port: 5173,
    // The session's cookie is the node's: keep its host name, or the node takes a write for a forged one.
    proxy: { "/api/": { target: node, changeOrigin: true, headers: { origin: node } } },
  },
  build: {
    outDir: "dist/app",
    // light-dark() stays as it is written.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    assetsInlineLimit: 0, // the content security policy allows no data: URLs
    reportCompressedSize: false,
    modulePreload: { polyfill: false },
  },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
