/**
 * Models where people host them: behind signatures, on other origins with half of the headers,
 * behind servers that pack. What can't work is named at once, with what to do.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { openPage } from "./chromium.mjs";
import { closeHosts, host, NANO } from "./host.mjs";

const MODEL = JSON.parse(await readFile(join(NANO, "manifest.json"), "utf8"));
/** @type {string[]} */
const PATHS = MODEL.files.map((/** @type {{ path: string }} */ { path }) => path);

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  opened = await openPage();
  await opened.page.evaluate(async () => {
    const univi = await import(`${location.origin}/pkg/dist/index.js`);
    const load = async (/** @type {any} */ options) => {
      const begun = performance.now();
      try {
        const loaded = await univi.Univi.create({ device: "cpu", ...options });
        const text = await loaded.ask("What is this?", { temperature: 0, maxTokens: 4 }).text();
        loaded.dispose();
        return { text, code: "", message: "", ms: performance.now() - begun };
      } catch (error) {
        const { code, message } = /** @type {{ code: string, message: string }} */ (error);
        return { text: "", code, message, ms: performance.now() - begun };
      }
    };
    Object.assign(globalThis, { univi, load });
  });
});
beforeEach(() => opened.page.evaluate(() => Reflect.get(globalThis, "univi").clearCache()));
after(async () => {
  await closeHosts();
  await opened?.close();
});

/**
 * Loads in the page -> the answer, or the error and how long it took to come.
 *
 * @typedef {{ text: string, code: string, message: string, ms: number }} Outcome
 * @param {object} options
 * @returns {Promise<Outcome>}
 */
const load = (options) =>
  opened.page.evaluate((options) => Reflect.get(globalThis, "load")(options), options);

/** @param {Outcome} outcome */
function assertLoaded({ text, message }) {
  assert.equal(message, "");
  assert.notEqual(text, "");
}

test("a query goes along to the files", async () => {
  const signed = await host({
    hook: (_, url) =>
      url.searchParams.get("token") === "a b+c" ? undefined : { status: 403, body: "no" },
  });
  assertLoaded(await load({ model: `${signed.url}manifest.json?token=a%20b%2Bc` }));
  assert.equal(signed.requests.length, 1 + PATHS.length);
});

test("the page decides where the files lie", async () => {
  const store = await host({ hook: (_, url) => ({ path: url.pathname.replace("/blobs/", "") }) });
  const front = await host({
    hook: (_, { pathname }) => (pathname === "/manifest.json" ? undefined : { status: 404 }),
  });
  const found = await opened.page.evaluate(
    ([url, blobs]) => {
      /** @type {string[]} */
      const asked = [];
      const model = {
        url,
        resolve: async (/** @type {string} */ name) => {
          asked.push(name);
          return `${blobs}blobs/${name}`;
        },
      };
      return Reflect.get(
        globalThis,
        "load",
      )({ model }).then((/** @type {any} */ loaded) => ({ ...loaded, asked }));
    },
    [`${front.url}manifest.json`, store.url],
  );
  assertLoaded(found);
  assert.deepEqual(found.asked.sort(), [...PATHS].sort());
  const failing = await opened.page.evaluate((url) => {
    const resolve = () => {
      throw new Error("the signature service is down");
    };
    return Reflect.get(globalThis, "load")({ model: { url, resolve }, cache: "none" });
  }, `${front.url}manifest.json`);
  assert.equal(failing.code, "bad-request");
  assert.match(failing.message, /the signature service is down/);
});

test("a packed answer of another origin is as good as any", async () => {
  const packing = await host({ packs: true });
  assertLoaded(await load({ model: `${packing.url}manifest.json` }));
});

test("a server that refuses preflights and hides its headers still resumes", async () => {
  let breaks = 1;
  const half = await host({
    preflight: false,
    hook: (request, url) =>
      url.pathname.includes(".gguf") && !request.headers.range && breaks-- > 0
        ? { break: 50_000 }
        : undefined,
  });
  assertLoaded(await load({ model: `${half.url}manifest.json` }));
  const ranges = half.requests.flatMap(({ range }) => range ?? []);
  assert.deepEqual(ranges, ["bytes=50000-"]);
  assert.ok(!half.requests.some(({ headers }) => "if-range" in headers));
});

/** What can't work, with what is said of it. */
test("what can't be reached is named at once", async () => {
  const closed = await host({ cors: {} });
  const gone = await host();
  await gone.close();
  const page = new URL(opened.url).origin;
  /** @type {[string, RegExp][]} */
  const cases = [
    [`${closed.url}manifest.json?secret=1`, /CORS.*Access-Control-Allow-Origin/],
    [`${gone.url}manifest.json`, /the server can't be reached/],
    [
      "file:///models/manifest.json",
      /a page can't read files by their address; give it File objects/,
    ],
    ["http://joe:pass@localhost/manifest.json", /user name or password/],
    ["ftp://localhost/manifest.json", /ftp:/],
  ];
  for (const [model, says] of cases) {
    const { code, message, ms } = await load({ model });
    assert.equal(code, "io", message);
    assert.match(message, says);
    assert.ok(!/secret|pass@|joe/.test(message), message);
    assert.ok(ms < 5000, `${model}: ${Math.round(ms)} ms`);
  }
  assert.ok(closed.requests.length <= 2, "it is asked once, and once whether it is there");
  assert.notEqual(page, "");
});

test("a policy that forbids a request is named", async () => {
  const other = await host();
  const context = await opened.page.context().newPage();
  await context.route("**/empty.html", async (route) => {
    const response = await route.fetch();
    const policy = `default-src 'self'; script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval'; connect-src 'self'`;
    await route.fulfill({
      response,
      headers: { ...response.headers(), "content-security-policy": policy },
    });
  });
  await context.goto(opened.page.url());
  const message = await context.evaluate(async (model) => {
    const { Univi } = await import(`${location.origin}/pkg/dist/index.js`);
    const options = { model, device: "cpu", cache: "none", worker: false };
    return Univi.create(options).then(
      () => "it loaded",
      (/** @type {Error} */ error) => error.message,
    );
  }, `${other.url}manifest.json`);
  assert.match(message, /content security policy.*connect-src/);
  assert.equal(other.requests.length, 0);
  await context.close();
});

test("a page that came over https says why a model at an http address can't be had", async (t) => {
  const page = await opened.page.context().newPage();
  t.after(() => page.close());
  await page.route("https://secure.test/**", async (route) => {
    const { pathname } = new URL(route.request().url());
    await route.fulfill({
      response: await route.fetch({ url: new URL(pathname, opened.url).href }),
    });
  });
  /** @type {string[]} */
  const plain = [];
  await page.route("http://models.test/**", (route) => {
    plain.push(route.request().url());
    return route.abort();
  });
  await page.goto("https://secure.test/empty.html");
  for (const allowedOrigins of [undefined, ["http://models.test"]]) {
    const message = await page.evaluate(async (allowedOrigins) => {
      const { Univi } = await import(`${location.origin}/pkg/dist/index.js`);
      const model = "http://models.test/manifest.json";
      const options = { model, device: "cpu", cache: "none", worker: false, allowedOrigins };
      return Univi.create(options).then(
        () => "it loaded",
        (/** @type {Error} */ error) => error.message,
      );
    }, allowedOrigins);
    assert.match(message, /comes over https may not fetch over http; serve it over https/);
  }
  assert.deepEqual(plain, []);
});

test("a page that allows its own origin alone asks no other", async () => {
  const other = await host();
  const sends = await host({
    hook: (_, { pathname }) =>
      pathname === "/manifest.json"
        ? { status: 302, headers: { Location: `${other.url}manifest.json` } }
        : undefined,
  });
  const own = new URL(opened.url).origin;
  const refused = await load({ model: `${other.url}manifest.json`, allowedOrigins: [own] });
  assert.equal(refused.code, "io");
  assert.match(refused.message, /does not allow requests to .*allowedOrigins/);
  const redirected = await load({
    model: `${sends.url}manifest.json`,
    allowedOrigins: [own, sends.url],
  });
  assert.match(redirected.message, /sends on to another address/);
  // Nor what the page's own resolve leads to, nor a picture.
  const led = await opened.page.evaluate(
    async ([own, other]) => {
      const model = {
        url: "/models/univi-nano/manifest.json",
        resolve: (/** @type {string} */ name) => other + name,
      };
      const load = Reflect.get(globalThis, "load");
      const files = await load({ model, allowedOrigins: [own], cache: "none" });
      const { Univi } = Reflect.get(globalThis, "univi");
      const univi = await Univi.create({
        model: model.url,
        allowedOrigins: [own],
        device: "cpu",
        cache: "none",
      });
      const picture = await univi
        .ask([new URL(`${other}penguin.png`), "What is this?"])
        .text()
        .catch((/** @type {Error} */ error) => error.message);
      univi.dispose();
      return [files.message, picture];
    },
    [own, other.url],
  );
  for (const message of led) assert.match(message, /does not allow requests to/);
  assert.equal(other.requests.length, 0);
  assertLoaded(await load({ model: "/models/univi-nano/manifest.json", allowedOrigins: [own] }));
  assertLoaded(
    await load({ model: `${other.url}manifest.json`, allowedOrigins: [own, other.url] }),
  );
});
