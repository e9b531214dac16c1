/** What the WebAssembly module must do, run unchanged in Chromium and on Dawn in Node. A case that fails throws. */

/** @typedef {typeof import("../../pkg/wasm/univi_web.js")} UniviWasm */

/** @type {Record<string, (univi: UniviWasm) => Promise<void>>} */
export const cases = {
  "the module tells its version": async (univi) => {
    if (!/^\d+\.\d+\.\d+$/.test(univi.version())) throw new Error(`version ${univi.version()}`);
  },
  "wgpu finds the adapter": async (univi) => {
    const name = await univi.adapterName();
    if (typeof name !== "string") throw new Error(`adapter name ${name}`);
  },
};
