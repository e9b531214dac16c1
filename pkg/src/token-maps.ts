/** The token maps of what was encoded, which stay on the device until they are asked for. */
import type { Handle } from "./calls.js";
import type { Client } from "./rpc.js";
import type { TokenMap } from "./types.js";

/** Frees the maps that nobody has asked for when their owner is garbage. */
const registry = new FinalizationRegistry<{ client: Client; handles: Handle[] }>(
  ({ client, handles }) => client.free(handles.splice(0)),
);

/** Token maps of one question, in the order of its visual parts. */
export class TokenMaps {
  readonly #client: Client;
  readonly #handles: Handle[] = [];
  #fetched: Promise<readonly TokenMap[]> | undefined;

  constructor(client: Client) {
    this.#client = client;
    registry.register(this, { client, handles: this.#handles });
  }

  /** Adds the next one, and owns it from now on. */
  add(handle: Handle): void {
    this.#handles.push(handle);
  }

  /** Reads them back from the device, the first time. */
  fetch(): Promise<readonly TokenMap[]> {
    this.#fetched ??= this.#read();
    return this.#fetched;
  }

  /** Frees them on the device; what was fetched stays. May be called again. */
  free(): void {
    this.#client.free(this.#handles.splice(0));
  }

  async #read(): Promise<readonly TokenMap[]> {
    const calls = this.#handles.map((tokenMap) => this.#client.call("tokenMap", { tokenMap }));
    try {
      return await Promise.all(calls);
    } finally {
      this.free();
    }
  }
}
