/** What a page, its workers and its browser take, by the protocol of Chromium's own tools. */
import { readFile } from "node:fs/promises";

/**
 * Opens sessions of the protocol.
 *
 * @param {import("playwright-core").Page} page
 * @param {number} patienceMs How long a worker may take to answer.
 */
export async function inspect(page, patienceMs) {
  const browser = page.context().browser();
  if (!browser) throw new Error("the browser was started without a handle on it");
  const [ofBrowser, ofPage] = await Promise.all([
    browser.newBrowserCDPSession(),
    page.context().newCDPSession(page),
  ]);
  /** Sessions of the page's workers, whose heaps are their own. @type {Set<string>} */
  const workers = new Set();
  let calls = 0;
  /** @type {Map<number, (result: any) => void>} */
  const answers = new Map();
  ofPage.on("Target.attachedToTarget", ({ sessionId }) => workers.add(sessionId));
  ofPage.on("Target.detachedFromTarget", ({ sessionId }) => workers.delete(sessionId));
  ofPage.on("Target.receivedMessageFromTarget", ({ message }) => {
    const { id, result } = JSON.parse(message);
    answers.get(id)?.(result);
    answers.delete(id);
  });
  await ofPage.send("Target.setAutoAttach", {
    autoAttach: true,
    waitForDebuggerOnStart: false,
    flatten: false,
  });
  const processes = async () => (await ofBrowser.send("SystemInfo.getProcessInfo")).processInfo;
  return {
    page: ofPage,
    workers,
    processes,
    /**
     * Asks a worker.
     *
     * @param {string} sessionId
     * @param {string} method
     * @returns {Promise<any>}
     */
    ask: (sessionId, method, /** @type {object} */ params = {}) =>
      new Promise((resolve, reject) => {
        const id = ++calls;
        answers.set(id, resolve);
        const message = JSON.stringify({ id, method, params });
        ofPage.send("Target.sendMessageToTarget", { sessionId, message }).catch(reject);
        setTimeout(() => reject(new Error(`no answer to ${method} of a worker`)), patienceMs);
      }),
    /** Bytes that processes of these types take of the machine's memory, where Linux tells. */
    residentBytes: async (/** @type {string[]} */ ...types) => {
      let bytes = 0;
      for (const { type, id } of await processes()) {
        if (!types.includes(type)) continue;
        const status = await readFile(`/proc/${id}/status`, "utf8").catch(() => "");
        bytes += 1024 * Number(/RssAnon:\s+(\d+)/.exec(status)?.[1] ?? 0);
      }
      return bytes;
    },
  };
}
