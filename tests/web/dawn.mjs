/** UniVi's WebAssembly module in Node, on Dawn: the browser's WebGPU without the browser. */
import { create, globals } from "webgpu";

/**
 * Gives Node Dawn's WebGPU. wgpu looks for the GPU as it would in a page, through `navigator` and
 * `Window`, so both are made up here.
 */
export function provideDawn() {
  Object.assign(globalThis, globals);
  Object.defineProperty(globalThis, "navigator", {
    value: { gpu: create([]) },
    configurable: true,
  });
  Object.defineProperty(globalThis, "Window", { value: AnyWindow, configurable: true });
}

/** Takes everything for a window: that is how wasm-bindgen's glue tells a page from a worker. */
class AnyWindow {
  static [Symbol.hasInstance]() {
    return true;
  }
}
