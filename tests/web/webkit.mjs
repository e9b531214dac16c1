/**
 * WebKit as Debian packages it, MiniBrowser of WebKitGTK, driven by its own WebDriver on a display
 * that nobody sees.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

const DRIVER = "/usr/bin/WebKitWebDriver";
/** How long anything that is waited for may take on a busy machine. */
const PATIENCE_MS = 90_000;
/** How WebDriver writes an element. */
const ELEMENT = "element-6066-11e4-a52e-4f735466cecf";

/** A page in WebKit. */
export class WebkitPage {
  #session;

  /** @param {string} session The address of a WebDriver session. */
  constructor(session) {
    this.#session = session;
  }

  /** @param {string} url */
  async goto(url) {
    await call("POST", `${this.#session}/url`, { url });
  }

  async reload() {
    await call("POST", `${this.#session}/refresh`, {});
  }

  /**
   * Runs a function in the page -> what it returns, also where that is promised.
   *
   * @template T
   * @template {any[]} A
   * @param {(...args: A) => T} act
   * @param {A} args
   * @returns {Promise<Awaited<T>>}
   */
  async evaluate(act, ...args) {
    const script = `
      const done = arguments[arguments.length - 1];
      Promise.resolve()
        .then(() => (${act})(...[...arguments].slice(0, -1)))
        .then((value) => done({ value }), (error) => done({ error: String(error) }));`;
    const answer = await call("POST", `${this.#session}/execute/async`, { script, args });
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.value;
  }

  /**
   * Waits until a function in the page returns something that counts as true -> it.
   *
   * @template {any[]} A
   * @param {(...args: A) => unknown} condition
   * @param {A} args
   */
  async until(condition, ...args) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = await this.evaluate(condition, ...args).catch(() => undefined); // It navigates.
      if (found) return found;
      if (Date.now() > deadline) throw new Error(`never came true: ${condition} ${args}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** @param {string} selector */
  async click(selector) {
    const element = await this.#find(selector);
    await call("POST", `${this.#session}/element/${element}/click`, {});
  }

  /**
   * Types into an element; into one that takes files, their paths.
   *
   * @param {string} selector
   * @param {string} text
   */
  async type(selector, text) {
    const element = await this.#find(selector);
    await call("POST", `${this.#session}/element/${element}/value`, { text });
  }

  /** @returns {Promise<Buffer>} A picture of what is shown. */
  async screenshot() {
    return Buffer.from(await call("GET", `${this.#session}/screenshot`), "base64");
  }

  /** @param {string} value */
  async #find(value) {
    const found = await call("POST", `${this.#session}/element`, { using: "css selector", value });
    return found[ELEMENT];
  }
}

/**
 * Starts WebKit -> a page of it, and what ends everything.
 *
 * @param {{ width: number, height: number }} [size]
 */
export async function openWebkit({ width, height } = { width: 1280, height: 800 }) {
  /** @type {import("node:child_process").ChildProcess[]} */
  const started = [];
  const start = (
    /** @type {string} */ program,
    /** @type {string[]} */ args,
    /** @type {any} */ how,
  ) => {
    const child = spawn(program, args, how);
    child.on("error", () => {}); // Waiting for what it prints, or answers, says so.
    started.push(child);
    return child;
  };
  const kill = () => started.map((child) => child.kill());
  process.once("exit", kill);
  const close = async () => {
    process.off("exit", kill);
    for (const child of started.reverse()) {
      if (child.exitCode !== null || child.pid === undefined) continue;
      child.kill();
      await once(child, "exit");
    }
  };
  try {
    const screen = ["-screen", "0", `${width}x${height}x24`, "-nolisten", "tcp"];
    const xvfb = start("Xvfb", ["-displayfd", "3", ...screen], {
      stdio: ["ignore", "ignore", "ignore", "pipe"],
    });
    const lines = createInterface({ input: /** @type {any} */ (xvfb.stdio[3]) });
    const patience = { signal: AbortSignal.timeout(PATIENCE_MS) };
    const [display] = await Promise.race([once(lines, "line", patience), once(xvfb, "exit")]);
    if (typeof display !== "string") throw new Error(`Xvfb ended with ${display}`);
    const port = await freePort();
    start(DRIVER, [`--port=${port}`], {
      stdio: "ignore",
      env: {
        ...process.env,
        DISPLAY: `:${display}`,
        GDK_BACKEND: "x11",
        LIBGL_ALWAYS_SOFTWARE: "1",
      },
    });
    const driver = `http://127.0.0.1:${port}`;
    await answers(driver);
    const { sessionId } = await call("POST", `${driver}/session`, {
      capabilities: { alwaysMatch: { timeouts: { script: PATIENCE_MS } } },
    });
    const session = `${driver}/session/${sessionId}`;
    await call("POST", `${session}/window/rect`, { x: 0, y: 0, width, height });
    const end = async () => {
      await call("DELETE", session).catch(() => {}); // It has gone already.
      await close();
    };
    return { page: new WebkitPage(session), close: end };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Asks the driver. @param {string} method @param {string} url @param {object} [body] */
async function call(method, url, body) {
  const response = await fetch(url, { method, ...(body ? { body: JSON.stringify(body) } : {}) });
  const { value } = /** @type {{ value: any }} */ (await response.json());
  if (!response.ok) throw new Error(`${method} ${url}: ${value.error}: ${value.message}`);
  return value;
}

/** Waits until the driver answers. @param {string} driver */
async function answers(driver) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await fetch(`${driver}/status`).catch(() => undefined))?.ok) {
    if (Date.now() > deadline) throw new Error(`${DRIVER} does not answer`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A port that nobody listens on: the driver does not choose one itself. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  server.close();
  await once(server, "close");
  return port;
}
