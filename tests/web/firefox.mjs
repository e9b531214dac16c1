/** Firefox as it is installed, headless, driven by WebDriver BiDi. */

/** How puppeteer starts it. @type {import("puppeteer-core").LaunchOptions} */
export const FIREFOX = {
  browser: "firefox",
  executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
  protocol: "webDriverBiDi",
};
