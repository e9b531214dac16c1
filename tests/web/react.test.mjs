/** The hooks of `univi/react` in Chromium: a component that loads a model, asks, and leaves. */
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { openPage } from "./chromium.mjs";
import { MODELS, OUTPUT } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const COMPONENT = `
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useAnswer, useUnivi } from "univi/react";

const photo = await (await fetch("/samples/penguin-cookie.png")).blob();

function Asker({ name }) {
  const options = name === "a server"
    ? { remote: globalThis.remote }
    : { model: "/models/" + name + "/manifest.json", device: "cpu" };
  const { load, ...model } = useUnivi(options);
  const { ask, stop, ...answer } = useAnswer(model.univi);
  globalThis.univi = model.univi ?? globalThis.univi;
  return <>
    <p>model: {model.status}{model.error && " " + model.error.code}</p>
    <p>answer: {answer.status} {answer.text}</p>
    <button onClick={load}>Load</button>
    <button onClick={() => ask([photo, "What colour is the background?"], { temperature: 0 })}>Ask</button>
    <button onClick={() => { ask("a", { maxTokens: 500 }); ask([photo, "Can you see a penguin?"], { temperature: 0 }); }}>
      Ask twice
    </button>
  </>;
}

function App() {
  const [name, setName] = useState("univi-nano");
  return <>
    {name && <Asker name={name} />}
    <button onClick={() => setName("nothing")}>Another model</button>
    <button onClick={() => setName("a server")}>A server</button>
    <button onClick={() => setName("")}>Leave</button>
  </>;
}

createRoot(document.body).render(<StrictMode><App /></StrictMode>);
`;

/**
 * The hooks are bundled with React; the rest of the package is served as it is, with its worker.
 *
 * @param {import("esbuild").PluginBuild} build
 */
function servedAsItIs(build) {
  build.onResolve({ filter: /^\.\/univi\.js$/ }, () => ({
    path: "/pkg/dist/univi.js",
    external: true,
  }));
}

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  const folder = join(OUTPUT, "react");
  await mkdir(folder, { recursive: true });
  await build({
    stdin: { contents: COMPONENT, loader: "jsx", resolveDir: import.meta.dirname },
    bundle: true,
    format: "esm",
    jsx: "automatic",
    plugins: [{ name: "univi", setup: servedAsItIs }],
    outfile: join(folder, "app.js"),
    define: { "process.env.NODE_ENV": '"development"' },
  });
  opened = await openPage();
});
after(() => opened.close());

test("a component loads a model, asks, and takes another one", async () => {
  const { page } = opened;
  /** @param {string} text */
  const shown = (text) => page.getByText(text, { exact: true }).waitFor();
  /** @param {string} name */
  const press = (name) => page.getByRole("button", { name, exact: true }).click();
  await page.addScriptTag({ url: "/output/react/app.js", type: "module" });
  await shown("model: idle");
  await press("Load");
  await press("Load"); // Once is enough.
  await shown("model: ready");
  await press("Ask");
  await shown("answer: done red");
  await press("Ask twice");
  await shown("answer: done yes");
  await press("Another model");
  await shown("model: idle");
  await shown("answer: idle"); // What the other one said is not this one's.
  const disposed = await page.evaluate(() => {
    const { univi } = /** @type {typeof globalThis & { univi: import("univi").Univi }} */ (
      globalThis
    );
    return univi
      .ask("a")
      .text()
      .catch((error) => error.code);
  });
  assert.equal(disposed, "bad-request");
  await press("Load");
  await page.getByText(/^model: failed \w+/).waitFor();
  const flags = ["--model", join(MODELS, "univi-nano"), "--device", "cpu"];
  const server = await serve({ "/": MODELS }, [...flags, "--allow-origin", opened.url]);
  try {
    await page.evaluate((remote) => Object.assign(globalThis, { remote }), server.url);
    await press("A server");
    await shown("model: idle");
    await press("Load");
    await shown("model: ready");
    await press("Ask");
    await shown("answer: done red");
  } finally {
    await server.close();
  }
  await press("Leave");
  assert.equal(await page.locator("p").count(), 0);
});
