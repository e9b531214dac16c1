/** The test Hub, which is written in Rust (`tests/src/test_hub.rs`), as a child process. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { OUTPUT, UNIVI } from "./fixtures.mjs";

/**
 * A request that was answered, by the Hub or by its storage.
 *
 * @typedef {{ is_storage: boolean, method: string, path: string, range: string | null, has_token:
 * boolean, status: number, bytes: number }} HubRequest
 */

/**
 * What goes wrong with answers about paths that contain `path`.
 *
 * @typedef {{ path: string, times?: number } & ({ kind: "status", status: number, retry_after_s?:
 * number } | { kind: "drop" | "stall", bytes: number } | { kind: "ignore-range" } | { kind:
 * "corrupt", at: number })} HubFault
 */

/**
 * Serves repositories until it is closed.
 *
 * @param {Record<string, string>} repositories Folders by owner and name.
 * @param {string[]} [flags] Of `test-hub`.
 */
export async function openHub(repositories, flags = []) {
  const root = join(OUTPUT, `hub-${process.pid}-${opened++}`);
  await rm(root, { recursive: true, force: true });
  for (const [name, folder] of Object.entries(repositories)) {
    await mkdir(join(root, dirname(name)), { recursive: true });
    await symlink(folder, join(root, name));
  }
  const child = spawn(join(dirname(UNIVI), "test-hub"), [root, ...flags], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const kill = () => child.kill();
  process.once("exit", kill);
  const ended = once(child, "exit");
  const lines = createInterface({ input: child.stdout });
  const [url] = await Promise.race([once(lines, "line"), ended]);
  if (typeof url !== "string") throw new Error(`test-hub ended with ${url}`);
  const requests = async () =>
    /** @type {HubRequest[]} */ (await (await fetch(`${url}/control/requests`)).json());
  return {
    url,
    /** What was asked so far. */
    requests,
    /** Bytes of files that were sent so far. */
    sentBytes: async () => {
      const files = (await requests()).filter(
        ({ is_storage, path }) => is_storage || path.includes("/resolve/"),
      );
      return files.reduce((sum, { bytes }) => sum + bytes, 0);
    },
    /** Has these things go wrong from now on, and no others. @param {HubFault[]} faults */
    faults: async (...faults) => {
      const body = JSON.stringify(faults);
      const answer = await fetch(`${url}/control/faults`, { method: "POST", body });
      if (!answer.ok) throw new Error(await answer.text());
    },
    close: async () => {
      process.off("exit", kill);
      child.kill();
      await ended;
    },
  };
}
let opened = 0;
