/** What pages of tests import by its address: files, and failures as data. */

/**
 * A file of the server.
 *
 * @param {string} path
 * @param {string} type
 */
export async function file(path, type = "") {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return new File([await response.arrayBuffer()], path.split("/").at(-1) ?? path, { type });
}

/**
 * What is thrown.
 *
 * @param {() => Promise<unknown>} work
 * @returns {Promise<{ name: string, code?: string, message: string }>}
 */
export async function fails(work) {
  try {
    await work();
  } catch (error) {
    const { name, code, message } =
      /** @type {{ name: string, code?: string, message: string }} */ (error);
    return code === undefined ? { name, message } : { name, code, message };
  }
  return { name: "nothing", code: "none", message: "" };
}
