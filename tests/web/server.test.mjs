/** What a page of another origin may ask of `univi serve`, and read of its answers. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openPage } from "./chromium.mjs";
import { OUTPUT } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const FILE = "resumed.gguf";

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
/** @type {Awaited<ReturnType<typeof serve>>} */
let host;
before(async () => {
  await writeFile(join(OUTPUT, FILE), "0123456789");
  host = await serve({ "/": OUTPUT }, ["--fault", "429,retry-after=3,times=1"]);
  opened = await openPage();
});
after(async () => {
  await opened.close();
  await host.close();
});

test("an isolated page resumes a file of another origin", async () => {
  const seen = await opened.page.evaluate(async (url) => {
    const ask = async (/** @type {Record<string, string>} */ headers) => {
      const response = await fetch(url, { headers, cache: "no-store" });
      const names = ["accept-ranges", "content-length", "content-range", "etag", "retry-after"];
      const read = Object.fromEntries(names.map((name) => [name, response.headers.get(name)]));
      return { status: response.status, text: await response.text(), headers: read };
    };
    const busy = await ask({});
    const whole = await ask({});
    const rest = await ask({ Range: "bytes=4-", "If-Range": whole.headers.etag ?? "" });
    const other = await ask({ Range: "bytes=4-", "If-Range": '"another"' });
    return { isolated: crossOriginIsolated, busy, whole, rest, other };
  }, `${host.url}${FILE}`);

  assert.ok(seen.isolated);
  assert.equal(seen.busy.status, 429);
  assert.equal(seen.busy.headers["retry-after"], "3");
  const { etag } = seen.whole.headers;
  const headers = {
    "accept-ranges": "bytes",
    "content-length": "10",
    "content-range": null,
    etag,
    "retry-after": null,
  };
  assert.match(etag ?? "", /^"/);
  assert.deepEqual(seen.whole, { status: 200, text: "0123456789", headers });
  assert.deepEqual(seen.other, seen.whole);
  const part = { ...headers, "content-length": "6", "content-range": "bytes 4-9/10" };
  assert.deepEqual(seen.rest, { status: 206, text: "456789", headers: part });

  const requests = await host.requests(4);
  assert.deepEqual(
    requests.slice(0, 4).map(({ method, status }) => [method, status]),
    [
      ["GET", 429],
      ["GET", 200],
      ["OPTIONS", 204], // May this page send If-Range?
      ["GET", 206],
    ],
  );
  assert.equal(requests[3]?.bytes, 6);
});

test("a worker reaches its own server, and no other, whatever its page allows", async () => {
  const probe = `onmessage = async ({ data: url }) => {
    const blocked = new Promise((resolve) =>
      addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective)),
    );
    const reached = await fetch(url).then(() => true, () => false);
    postMessage({ reached, blocked: reached ? "" : await blocked });
  };`;
  await writeFile(join(OUTPUT, "probe.js"), probe);
  await writeFile(join(OUTPUT, "page.html"), "<!doctype html><title>No policy</title>");
  const page = await openPage({ folders: { "/": OUTPUT }, path: "page.html" });
  const other = await serve({ "/": OUTPUT });
  try {
    const ask = (/** @type {string} */ url) =>
      page.page.evaluate(async (url) => {
        const worker = new Worker("probe.js");
        const said = new Promise((resolve) => {
          worker.onmessage = ({ data }) => resolve(data);
        });
        worker.postMessage(url);
        return said;
      }, url);
    assert.deepEqual(await ask(`${page.url}${FILE}`), { reached: true, blocked: "" });
    const refused = { reached: false, blocked: "connect-src" };
    assert.deepEqual(await ask(`${other.url}${FILE}`), refused);
    // The first request that the other server sees is this one.
    await fetch(`${other.url}page.html`);
    assert.deepEqual(
      (await other.requests(1)).map(({ path }) => path),
      ["/page.html"],
    );
    const script = await fetch(`${page.url}probe.js`);
    assert.match(script.headers.get("content-security-policy") ?? "", /connect-src 'self'/);
  } finally {
    await other.close();
    await page.close();
  }
});
