/** Firefox as it is installed, headless, driven by WebDriver BiDi. */
import puppeteer from "puppeteer-core";

/** How long anything that is waited for may take on a busy machine. */
const PATIENCE_MS = 90_000;

/** How puppeteer starts it. @type {import("puppeteer-core").LaunchOptions} */
export const FIREFOX = {
  browser: "firefox",
  executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
  protocol: "webDriverBiDi",
};

/** A camera that shows a test picture, and is allowed without asking. */
const CAMERA = {
  "media.navigator.permission.disabled": true,
  "media.navigator.streams.fake": true,
};

/** A page in Firefox, with the methods of one in WebKit. */
class FirefoxPage {
  #page;

  /** @param {import("puppeteer-core").Page} page */
  constructor(page) {
    this.#page = page;
  }

  /** @param {string} url */
  async goto(url) {
    await this.#page.goto(url);
  }

  async reload() {
    await this.#page.reload();
  }

  /**
   * Runs a function in the page -> what it returns.
   *
   * @template T
   * @template {any[]} A
   * @param {(...args: A) => T} act
   * @param {A} args
   * @returns {Promise<Awaited<T>>}
   */
  async evaluate(act, ...args) {
    return /** @type {any} */ (await this.#page.evaluate(/** @type {any} */ (act), ...args));
  }

  /**
   * Waits until a function in the page returns something that counts as true.
   *
   * @template {any[]} A
   * @param {(...args: A) => unknown} condition
   * @param {A} args
   */
  async until(condition, ...args) {
    const patience = { timeout: PATIENCE_MS, polling: 100 };
    await this.#page.waitForFunction(/** @type {any} */ (condition), patience, ...args);
  }

  /** @param {string} selector */
  async click(selector) {
    await this.#page.click(selector);
  }

  /**
   * Types into an element; into one that takes files, their paths.
   *
   * @param {string} selector
   * @param {string} text
   */
  async type(selector, text) {
    const element = await this.#page.$(selector);
    if (!element) throw new Error(`there is no ${selector}`);
    const takesFiles = await element.evaluate((one) => one.getAttribute("type") === "file");
    if (takesFiles)
      await /** @type {import("puppeteer-core").ElementHandle<HTMLInputElement>} */ (
        element
      ).uploadFile(text);
    else await element.type(text);
  }

  /** A picture of what is shown. */
  async screenshot() {
    return Buffer.from(await this.#page.screenshot());
  }
}

/** WebGPU on whatever the system has, software too. */
const WEBGPU = { "dom.webgpu.enabled": true, "gfx.webgpu.ignore-blocklist": true };

/**
 * Starts Firefox -> a page of it, and what ends it.
 *
 * @param {object} [options]
 * @param {boolean} [options.webgpu] Whether WebGPU is switched on.
 */
export async function openFirefox({ webgpu = false } = {}) {
  const preferences = webgpu ? { ...CAMERA, ...WEBGPU } : CAMERA;
  const browser = await puppeteer.launch({ ...FIREFOX, extraPrefsFirefox: preferences });
  const page = await browser.newPage();
  await page.setViewport({ width: 1280, height: 800 });
  return { page: new FirefoxPage(page), close: () => browser.close() };
}
