/** The module that converts, which is fetched only where a checkpoint is. */
import { type bindings, makeBindings, moduleUrl } from "../../wasm-convert/univi_web_convert.js";
import { WasmModule } from "../wasm-module.js";

/** The classes of an instance. */
export type ConversionBindings = typeof bindings;

/** The module that converts. */
export const conversion = new WasmModule<ConversionBindings>({
  makeBindings,
  moduleUrl,
  file: "wasm-convert/univi_web_convert_bg.wasm",
});
