import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const DIST = new URL("./dist/", import.meta.url);
const SERVICE_WORKER = "service-worker";

export default defineConfig({
  base: "./", // The built folder works under any path of any static host.
  worker: { format: "es" },
  build: {
    target: "es2022",
    rollupOptions: {
      input: { index: "index.html", [SERVICE_WORKER]: "service-worker/service-worker.ts" },
      // A service worker serves what lies beside and below it, and is known by its name.
      output: {
        entryFileNames: ({ name }) =>
          name === SERVICE_WORKER ? "[name].js" : "assets/[name]-[hash].js",
      },
    },
  },
  plugins: [listFiles()],
});

/** Tells the service worker which files the page has. */
function listFiles(): Plugin {
  return {
    name: "list-files",
    apply: "build",
    async writeBundle() {
      const entries = await readdir(DIST, { recursive: true, withFileTypes: true });
      const paths = entries
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name));
      const files = paths
        .map((path) => relative(fileURLToPath(DIST), path).replaceAll("\\", "/"))
        .sort();
      const page = await readFile(new URL("index.html", DIST), "utf8");
      const script = new URL(`${SERVICE_WORKER}.js`, DIST);
      // Each of those has its own way, see there.
      const served = files.filter(
        (file) => !["index.html", "samples/index.json", `${SERVICE_WORKER}.js`].includes(file),
      );
      const first = ["./", ...served.filter((file) => page.includes(`./${file}`))];
      const later = served.filter((file) => !first.includes(file));
      const version = createHash("sha256")
        .update(page)
        .update(files.join("\n"))
        .digest("hex")
        .slice(0, 16);
      const list = `const FILES = ${JSON.stringify({ version, first, later })};\n`;
      await writeFile(script, list + (await readFile(script, "utf8")));
    },
  };
}
