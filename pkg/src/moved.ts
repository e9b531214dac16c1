/**
 * Files of the package beside its scripts, where a tool moves the scripts.
 *
 * Vite's dev server, up to version 7, bundles a package's scripts into `node_modules/.vite/deps/`
 * and leaves behind what they name beside them.
 */
const MOVED = /\/\.vite\/deps[^/]*\/[^/]*$/;

/** The address of the package's file `path`; `url` where a script finds it beside itself. */
export function beforeMoving(url: URL, path: string): URL {
  return MOVED.test(url.pathname) ? new URL(`../../univi/${path}`, url) : url;
}
