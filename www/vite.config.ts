import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // The built folder works under any path of any static host.
  worker: { format: "es" },
  build: { target: "es2022" },
});
