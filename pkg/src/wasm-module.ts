/**
 * A WebAssembly module: compiled once, instantiated for each model, so that one that fails takes
 * no other with it and its memory goes when it goes.
 *
 * A panic, a trap or an overflow of the stack leaves an instance in no defined state. It then fails
 * as a whole: whatever calls it, a `UniviError` of code `internal` is all that comes out.
 */
import { UniviError } from "./error.js";
import { beforeMoving } from "./moved.js";
import { isA, runtime } from "./runtime.js";

/** The bindings of an instance, which start it. */
type Startable = (start: {
  module_or_path: WebAssembly.Module;
}) => Promise<{ readonly memory: WebAssembly.Memory }>;

/** What `cargo xtask wasm` makes of a crate. */
export interface WasmSource<B extends Startable> {
  /** Makes bindings of their own for an instance that does not exist yet. */
  readonly makeBindings: (wasm: object) => B;
  /** Returns the module's address, beside its script. */
  readonly moduleUrl: () => URL;
  /** The module's file in the package. */
  readonly file: string;
}

/** An instance of a module. */
export interface Instance<B> {
  readonly bindings: B;
  readonly memory: WebAssembly.Memory;
}

/** A module of the package; it is fetched and compiled for the first instance. */
export class WasmModule<B extends Startable> {
  readonly #source: WasmSource<B>;
  #compiled: Promise<WebAssembly.Module> | undefined;

  constructor(source: WasmSource<B>) {
    this.#source = source;
  }

  /**
   * Makes an instance. Where it fails later on, `onFailure` hears of it once, for the calls that
   * wait: what runs in a task of its own has no caller to throw to.
   */
  async instantiate(onFailure: (error: UniviError) => void): Promise<Instance<B>> {
    this.#compiled ??= compile(this.#source);
    const module = await this.#compiled.catch((error: unknown) => {
      this.#compiled = undefined; // Another try may find a better network.
      throw error;
    });
    const guard = new Guard(onFailure);
    const bindings = this.#source.makeBindings({
      ...memberOf(WebAssembly),
      instantiate: async (module: WebAssembly.Module, imports: WebAssembly.Imports) => {
        const { exports } = await WebAssembly.instantiate(module, guard.imports(imports));
        return { module, instance: { exports: guard.exports(exports) } };
      },
    });
    try {
      const { memory } = await bindings({ module_or_path: module });
      return { bindings, memory };
    } catch (cause) {
      throw new UniviError(
        "out-of-memory",
        `the WebAssembly module can't be started: ${(cause as Error).message}`,
        { cause },
      );
    }
  }
}

/** What the bindings look up beside `instantiate`: a namespace has no members to spread. */
function memberOf({ Module, Instance }: typeof WebAssembly) {
  return { Module, Instance };
}

async function compile({
  moduleUrl,
  file,
}: Pick<WasmSource<never>, "moduleUrl" | "file">): Promise<WebAssembly.Module> {
  let url: URL;
  try {
    url = beforeMoving(moduleUrl(), file);
  } catch (cause) {
    const why = "a bundler left no address for the WebAssembly module";
    throw new UniviError("io", `${why}; keep the package univi out of the bundle`, { cause });
  }
  try {
    const bytes = await runtime.wasm(url);
    return await (bytes ? WebAssembly.compile(bytes) : fetchModule(url, file));
  } catch (cause) {
    if (cause instanceof UniviError) throw cause;
    if (cause instanceof WebAssembly.CompileError) {
      const why = `the WebAssembly module can't be compiled: ${cause.message}`;
      const remedy =
        "a content security policy must allow 'wasm-unsafe-eval', and a browser must have SIMD";
      throw new UniviError("internal", `${why}; ${remedy}`, { cause });
    }
    throw unavailable(url, file, (cause as Error).message, cause);
  }
}

async function fetchModule(url: URL, file: string): Promise<WebAssembly.Module> {
  const response = await fetch(url);
  if (!response.ok) throw unavailable(url, file, `the server answered ${response.status}`);
  // Browsers keep the compiled code of what is compiled while it comes.
  if (response.headers.get("Content-Type") === "application/wasm")
    return WebAssembly.compileStreaming(response);
  const bytes = await response.arrayBuffer();
  if (bytes.byteLength < 4 || new DataView(bytes).getUint32(0) !== MAGIC)
    throw unavailable(url, file, "what the server sent is no WebAssembly module");
  return WebAssembly.compile(bytes);
}

function unavailable(url: URL, file: string, why: string, cause?: unknown): UniviError {
  const remedy =
    `serve the package's ${file} there; with Vite's dev server, add optimizeDeps: ` +
    '{ exclude: ["univi"] } to its configuration';
  return new UniviError("io", `${url.href}: ${why}; ${remedy}`, { cause });
}

/** `\0asm` */
const MAGIC = 0x0061736d;

/**
 * Exports that nobody waits for: callbacks of the runtime, and what frees memory. After a failure
 * they do nothing; thrown into a task of its own, an error would end a process.
 */
const UNAWAITED = /closure|_free$/;

/** What they return then, whether one value is expected of them or several, or none. */
const NOTHING: readonly never[] = [];

/** Stands between an instance and JavaScript. */
class Guard {
  readonly #onFailure: (error: UniviError) => void;
  /**
   * What the instance itself throws before it does anything, such as for an object that is gone.
   */
  readonly #refusals = new WeakSet<object>();
  #failure: UniviError | undefined;
  #depth = 0;
  #objects: WebAssembly.Table | undefined;

  constructor(onFailure: (error: UniviError) => void) {
    this.#onFailure = onFailure;
  }

  /** The same imports, with refusals noted. */
  imports(imports: WebAssembly.Imports): WebAssembly.Imports {
    const noted = (functions: WebAssembly.ModuleImports) =>
      mapped(functions, (name, value) =>
        name.includes("__wbindgen_throw") ? this.#noted(value as Callable) : value,
      );
    return mapped(imports, (_, functions) => noted(functions)) as WebAssembly.Imports;
  }

  /** The same exports, out of which nothing but a `UniviError` or a refusal comes. */
  exports(exports: WebAssembly.Exports): WebAssembly.Exports {
    this.#objects = exports.__wbindgen_externrefs as WebAssembly.Table | undefined;
    return mapped(exports, (name, value) =>
      typeof value === "function" ? this.#guarded(name, value as Callable) : value,
    ) as WebAssembly.Exports;
  }

  #noted(thrower: Callable): Callable {
    return (...args) => {
      try {
        return thrower(...args);
      } catch (error) {
        this.#refusals.add(error as object);
        throw error;
      }
    };
  }

  #guarded(name: string, call: Callable): Callable {
    const unawaited = UNAWAITED.test(name);
    return (...args) => {
      if (this.#failure) {
        if (unawaited) return NOTHING;
        throw this.#failure;
      }
      this.#depth += 1;
      try {
        return call(...args);
      } catch (error) {
        if (!unawaited && this.#refusals.has(Object(error))) throw error;
        const failure = this.#fail(error);
        if (unawaited && this.#depth === 1) return NOTHING;
        throw failure;
      } finally {
        this.#depth -= 1;
      }
    };
  }

  #fail(cause: unknown): UniviError {
    if (this.#failure) return this.#failure;
    const { name, message } = cause instanceof Error ? cause : new Error(String(cause));
    const what = name === "Panic" ? message : `${name}: ${message}`;
    const remedy = "create the model again, and please report this";
    this.#failure = new UniviError("internal", `UniVi has failed: ${what}; ${remedy}`, { cause });
    this.#giveBack();
    this.#onFailure(this.#failure);
    return this.#failure;
  }

  /** Gives the GPU back, which the instance can't do any more. */
  #giveBack(): void {
    const objects = this.#objects;
    for (let index = 0; index < (objects?.length ?? 0); index++) {
      const object: unknown = objects?.get(index);
      if (isA("GPUDevice", object)) (object as GPUDevice).destroy();
    }
  }
}

type Callable = (...args: unknown[]) => unknown;

function mapped<T>(record: Record<string, T>, map: (name: string, value: T) => T) {
  return Object.fromEntries(
    Object.entries(record).map(([name, value]) => [name, map(name, value)]),
  );
}
