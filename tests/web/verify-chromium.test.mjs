import { after, before, test } from "node:test";
import { openPage } from "./chromium.mjs";
import { fixturePaths, realModel } from "./fixtures.mjs";
import { judge, KINDS } from "./verify.mjs";

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  opened = await openPage();
  const given = {
    paths: await fixturePaths(),
    model: await realModel("gguf/smollm2/expected.json"),
  };
  await opened.page.evaluate(async ({ paths, model }) => {
    const univi = await import(`${location.origin}/wasm/univi_web_verify.js`);
    const { verifier } = await import(`${location.origin}/verify.mjs`);
    await univi.default({ module_or_path: `${location.origin}/wasm/univi_web_verify_bg.wasm` });
    const fetched = async (/** @type {string} */ path) => {
      const response = await fetch(path);
      if (!response.ok) throw new Error(`${path}: ${response.status}`);
      return new Uint8Array(await response.arrayBuffer());
    };
    const files = {
      paths,
      read: (/** @type {string} */ path) => fetched(`/fixtures/${path}`),
      model: () => fetched(`/models/${model}`),
    };
    Object.assign(globalThis, {
      webgpu: await verifier(univi, "webgpu", files),
      cpu: await verifier(univi, "cpu", files),
    });
  }, given);
});
after(() => opened.close());

test("every shader compiles", () =>
  opened.page.evaluate(() => Reflect.get(globalThis, "webgpu").compileAll()));

for (const device of ["webgpu", "cpu"]) {
  for (const kind of Object.keys(KINDS)) {
    test(`${kind} in Chromium, ${device}`, async () => {
      const check = (/** @type {string[]} */ [device, kind]) =>
        Reflect.get(globalThis, device ?? "").check(kind);
      judge(kind, await opened.page.evaluate(check, [device, kind]));
    });
  }
}
