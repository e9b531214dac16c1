// What a tool gets that loads CommonJS alone, such as Jest as it is set up by default. Node's own
// `require` and bundlers load the ES modules.
throw new Error(
  'univi is an ES module, which this tool can\'t load as CommonJS. In Jest: run it with NODE_OPTIONS=--experimental-vm-modules and load the package by import, or mock it. Elsewhere: await import("univi").',
);
