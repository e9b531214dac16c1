import { after, before, test } from "node:test";
import { cases } from "./cases.mjs";
import { openPage } from "./chromium.mjs";

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  opened = await openPage();
  await opened.page.evaluate(async () => {
    const { default: init } = await import(`${location.origin}/pkg/wasm/univi_web.js`);
    await init();
  });
});
after(() => opened.close());

for (const name of Object.keys(cases)) {
  test(name, () =>
    opened.page.evaluate(async (name) => {
      const univi = await import(`${location.origin}/pkg/wasm/univi_web.js`);
      const { cases } = await import(`${location.origin}/cases.mjs`);
      await cases[name](univi);
    }, name),
  );
}
