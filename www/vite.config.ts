import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const DIST = new URL("./dist/", import.meta.url);
const SERVICE_WORKER = "service-worker";

/**
 * The Hub that the page offers models of, by the environment: `UNIVI_HUB` names another one, such
 * as a mirror, and `off` leaves it out of the page, and out of what its policy allows.
 */
const HUB = process.env.UNIVI_HUB ?? "https://huggingface.co";
/** Where a Hub sends on to for large files, as far as that is known. */
const HUB_STORAGE: Readonly<Record<string, string>> = {
  "https://huggingface.co": "https://*.huggingface.co https://*.hf.co",
};
/** The script of the page. */
const ENTRY = fileURLToPath(new URL("./src/main.ts", import.meta.url));
/** What only pages that convert a checkpoint fetch. */
const CONVERSION = /conversion-worker|univi_web_convert/;

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
        codeSplitting: { groups: [{ name: firstView }] },
      },
    },
  },
  plugins: [...(HUB === "off" ? [] : [offerHub()]), withoutIndentation(), listFiles()],
});

/**
 * One script for all that the page's own imports at once, instead of one for each set of parts on
 * demand that share a module of it: half a kilobyte of headers each. The entry stays apart, since
 * it waits for parts that import this one.
 */
function firstView(id: string, modules: Modules): string | null {
  const found = new Set<string>();
  const visit = (ids: readonly string[]) => {
    for (const imported of ids) {
      if (found.has(imported)) continue;
      found.add(imported);
      visit(modules.getModuleInfo(imported)?.importedIds ?? []);
    }
  };
  visit(modules.getModuleInfo(ENTRY)?.importedIds ?? []);
  return found.has(id) ? "page" : null;
}

interface Modules {
  getModuleInfo(id: string): { readonly importedIds: readonly string[] } | null;
}

/** Writes the Hub's address into the page, and its hosts into the page's policy. */
function offerHub(): Plugin {
  const { origin } = new URL(HUB);
  const hosts = [origin, HUB_STORAGE[HUB] ?? ""].join(" ").trim();
  const policy = "connect-src 'self' blob:";
  return {
    name: "offer-hub",
    transformIndexHtml: (html) => ({
      html: html.replace(policy, `${policy} ${hosts}`),
      tags: [{ tag: "meta", attrs: { name: "univi-hub", content: HUB }, injectTo: "head" }],
    }),
  };
}

/** Leaves out of the page what only those who read its source want: one byte in seven. */
function withoutIndentation(): Plugin {
  return {
    name: "without-indentation",
    apply: "build",
    transformIndexHtml: (html) => html.replace(/\n\s*/g, "\n"),
  };
}

/** Tells the service worker which files the page has, and their hashes. */
function listFiles(): Plugin {
  return {
    name: "list-files",
    apply: "build",
    async writeBundle() {
      const entries = await readdir(DIST, { recursive: true, withFileTypes: true });
      const files = entries
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name))
        .map((path) => relative(fileURLToPath(DIST), path).replaceAll("\\", "/"))
        // A list that a site may change, and the worker itself.
        .filter((file) => !["samples/index.json", `${SERVICE_WORKER}.js`].includes(file))
        .sort();
      const hashed = files.map(async (file) => {
        const bytes = await readFile(new URL(file, DIST));
        return [file === "index.html" ? "./" : file, sha256Of(bytes)] as const;
      });
      const sha256 = Object.fromEntries(await Promise.all(hashed));
      const page = await readFile(new URL("index.html", DIST), "utf8");
      const first = ["./", ...files.filter((file) => page.includes(`./${file}`))];
      const onDemand = files.filter((file) => CONVERSION.test(file));
      const version = sha256Of(JSON.stringify(sha256)).slice(0, 16);
      const script = new URL(`${SERVICE_WORKER}.js`, DIST);
      const list = `const FILES = ${JSON.stringify({ version, first, onDemand, sha256 })};\n`;
      await writeFile(script, list + (await readFile(script, "utf8")));
    },
  };
}

function sha256Of(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}
