import { fileURLToPath } from "node:url";

import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const SERVER = process.env["PERDURE_URL"] ?? "http://localhost:8288";

export default defineConfig({
  // Addresses are relative, since the server may show the pages under any path; index.html has the base.
  base: "./",
  plugins: [react()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  build: {
    outDir: "../src/perdure/server/pages/static",
    emptyOutDir: true,
    target: "es2022",
    chunkSizeWarningLimit: 700,
  },
  worker: { format: "es" },
  server: {
    proxy: Object.fromEntries(["/api", "/v1", "/v2", "/e", "/invoke", "/dev"].map((path) => [path, SERVER])),
  },
});
