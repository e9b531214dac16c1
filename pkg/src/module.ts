/** The module that answers: what every page downloads. */
import { type bindings, makeBindings, moduleUrl } from "../wasm/univi_web.js";
import { WasmModule } from "./wasm-module.js";

/** The classes of an instance. */
export type Bindings = typeof bindings;

/** The module that answers. */
export const inference = new WasmModule<Bindings>({
  makeBindings,
  moduleUrl,
  file: "wasm/univi_web_bg.wasm",
});
