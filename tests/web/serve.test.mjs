import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { serve } from "../../www/serve.mjs";

/** @type {string} */
let dir;
/** @type {Awaited<ReturnType<typeof serve>>} */
let server;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "univi-serve-"));
  await mkdir(join(dir, "page"));
  await mkdir(join(dir, "models"));
  await writeFile(join(dir, "page/index.html"), "<p>page</p>");
  await writeFile(join(dir, "models/m.gguf"), "0123456789");
  await writeFile(join(dir, "secret"), "secret");
  server = await serve({ "/": join(dir, "page"), "/models/": join(dir, "models") }, 0);
});
after(async () => {
  await server.close();
  await rm(dir, { recursive: true });
});

/** @param {string | undefined} range */
const model = (range) => fetch(`${server.url}models/m.gguf`, range === undefined ? {} : { headers: { range } });

test("a folder is its index, and pages are isolated", async () => {
  const response = await fetch(server.url);
  assert.equal(await response.text(), "<p>page</p>");
  assert.equal(response.headers.get("content-type"), "text/html; charset=utf-8");
  assert.equal(response.headers.get("cross-origin-opener-policy"), "same-origin");
  assert.equal(response.headers.get("cross-origin-embedder-policy"), "require-corp");
});

test("ranges", async () => {
  for (const [range, status, text, content] of /** @type {const} */ ([
    [undefined, 200, "0123456789", null],
    ["bytes=2-4", 206, "234", "bytes 2-4/10"],
    ["bytes=7-", 206, "789", "bytes 7-9/10"],
    ["bytes=-3", 206, "789", "bytes 7-9/10"],
    ["bytes=8-99", 206, "89", "bytes 8-9/10"],
    ["bytes=10-", 416, "416\n", "bytes */10"],
  ])) {
    const response = await model(range);
    assert.equal(response.status, status, range);
    assert.equal(await response.text(), text, range);
    assert.equal(response.headers.get("content-range"), content, range);
  }
});

test("no way out of the folder", async () => {
  for (const path of ["/../secret", "/models/../../secret", "/..%2fsecret", "/%2e%2e/secret", "/models/%00", "/%zz"]) {
    const { port } = new URL(server.url);
    const status = await new Promise((resolve, reject) => {
      request({ port, path }, (response) => resolve(response.resume().statusCode)).on("error", reject).end();
    });
    assert.equal(status, 404, path);
  }
});
