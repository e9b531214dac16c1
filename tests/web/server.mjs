/** `univi serve` as a child process, with what it says of requests. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { UNIVI } from "./fixtures.mjs";

/** How long the end of a request is waited for. */
const PATIENCE_MS = 30_000;

/**
 * A request that is over. `bytes` are those of the answer's body, as sent; `faults` are the
 * `--fault` rules that bent it.
 *
 * @typedef {{ method: string, path: string, range: string | null, status: number, bytes: number,
 * faults: string[] }} Request
 */

/**
 * Serves folders until it is closed.
 *
 * @param {Record<string, string>} folders What lies under which address, as in `{ "/": "www/dist",
 * "/models/": "models" }`; there is always a `/`.
 * @param {string[]} [flags] Further ones for `univi serve`, such as `--throttle` and `--fault`.
 * @param {number} [port] By default any free one.
 * @returns {Promise<{ url: string, pid: number | undefined, requests: (count: number) =>
 * Promise<Request[]>, close: () => Promise<void> }>} The address, with a slash at its end; the
 * process; the requests in the order in which they ended, once there are at least so many; and what
 * ends it.
 */
export async function serve(folders, flags = [], port = 0) {
  const { "/": root, ...mounts } = folders;
  if (root === undefined) throw new Error("nothing is to be seen at /");
  const mounted = Object.entries(mounts).flatMap(([path, folder]) => [
    "--mount",
    `${path}=${folder}`,
  ]);
  const args = ["serve", root, ...mounted, "--port", String(port), "--json", ...flags];
  const child = spawn(UNIVI, args, { stdio: ["ignore", "pipe", "inherit"] });
  const kill = () => child.kill();
  process.once("exit", kill);
  const ended = once(child, "exit");
  const lines = createInterface({ input: child.stdout });
  const [first] = await Promise.race([once(lines, "line"), ended]);
  if (typeof first !== "string") throw new Error(`univi serve ended with ${first}`);
  /** @type {Request[]} */
  const over = [];
  lines.on("line", (line) => over.push(JSON.parse(line)));
  return {
    url: JSON.parse(first).url,
    pid: child.pid,
    requests: async (count) => {
      // The server tells a moment after the last byte has gone.
      while (over.length < count)
        await once(lines, "line", { signal: AbortSignal.timeout(PATIENCE_MS) });
      return over;
    },
    close: async () => {
      process.off("exit", kill);
      child.kill();
      await ended;
    },
  };
}
