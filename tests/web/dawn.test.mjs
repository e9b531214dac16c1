import { test } from "node:test";
import { cases } from "./cases.mjs";
import { loadOnDawn } from "./dawn.mjs";

const univi = await loadOnDawn();
for (const [name, run] of Object.entries(cases)) test(name, () => run(univi));
