/** The fixtures and models that tests read, from Node's side. */
import { createHash } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** The fixtures: the folder that `UNIVI_FIXTURES` names, else the one in this repository. */
export const FIXTURES = process.env.UNIVI_FIXTURES ?? join(root, "tests/fixtures");

/** Real models: the folder that `UNIVI_MODELS` names, else the one in this repository. */
export const MODELS = process.env.UNIVI_MODELS ?? join(root, "models");

/** Every fixture file, as a path with `/` from their folder. */
export async function fixturePaths() {
  const entries = await readdir(FIXTURES, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((entry) => join(entry.path, entry.name).slice(FIXTURES.length + 1).replaceAll("\\", "/")).sort();
}

/**
 * The file name, below `MODELS`, of the real model that the fixtures in `expected` are about.
 *
 * @param {string} expected From the fixtures' folder.
 */
export async function realModel(expected) {
  const { info } = JSON.parse(await readFile(join(FIXTURES, expected), "utf8"));
  for (const name of await readdir(MODELS)) {
    const path = join(MODELS, name);
    const { size } = await stat(path);
    if (size !== info.size) continue;
    if (createHash("sha256").update(await readFile(path)).digest("hex") === info.sha256) return name;
  }
  throw new Error(`the model of SHA-256 ${info.sha256} is not below ${MODELS}; \`cargo xtask models\` brings it`);
}
