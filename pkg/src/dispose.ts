/// <reference lib="esnext.disposable" preserve="true" />
/** The symbols of `using` and `await using`, for browsers that do not have them yet. */

/** Frees at once. */
export const dispose: typeof Symbol.dispose = Symbol.dispose ?? Symbol.for("Symbol.dispose");

/** Frees, and waits until it is freed. */
export const asyncDispose: typeof Symbol.asyncDispose =
  Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose");
