import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, test } from "node:test";
import { provideDawn } from "./dawn.mjs";
import { FIXTURES, fixturePaths, MODELS, realModel } from "./fixtures.mjs";
import { ELSEWHERE, judge, KINDS, verifier } from "./verify.mjs";

provideDawn();
const univi = await import("./wasm/univi_web_verify.js");
univi.initSync({
  module: await readFile(new URL("wasm/univi_web_verify_bg.wasm", import.meta.url)),
});
/** @type {import("./wasm/univi_web_verify.js").Verifier} */
let onDawn;
before(async () => {
  const model = await realModel("gguf/smollm2/expected.json");
  onDawn = await verifier(univi, "webgpu", {
    paths: await fixturePaths(),
    read: (path) => readFile(join(FIXTURES, path)),
    model: () => readFile(join(MODELS, model)),
  });
});

test("every kind of fixtures is tested", () => {
  const unknown = univi.Verifier.kinds().filter(
    (kind) => !(kind in KINDS || ELSEWHERE.includes(kind)),
  );
  if (unknown.length > 0) throw new Error(`not tested: ${unknown}`);
});

test("every shader compiles", () => onDawn.compileAll());

for (const kind of Object.keys(KINDS)) {
  test(`${kind} on Dawn`, async () => judge(kind, await onDawn.check(kind)));
}

// Two short conversations of the nine: all of them are held natively, and here would take five
// times as long as all else.
test("smollm2 on Dawn, in part", async () => {
  const [folder, model] = ["gguf/smollm2/", await realModel("gguf/smollm2/expected.json")];
  const {
    info,
    prompts: { france, system },
  } = JSON.parse(await readFile(join(FIXTURES, folder, "expected.json"), "utf8"));
  const part = Buffer.from(JSON.stringify({ info, prompts: { france, system } }));
  const inPart = await verifier(univi, "webgpu", {
    paths: [`${folder}expected.json`, `${folder}first_step_logits.safetensors`],
    read: async (path) => (path.endsWith(".json") ? part : readFile(join(FIXTURES, path))),
    model: () => readFile(join(MODELS, model)),
  });
  const report = await inPart.check("smollm2");
  if (report.cases.length < 12)
    throw new Error(`${report.cases.length} comparisons, at least 12 were expected`);
  judge("smollm2", report);
});
