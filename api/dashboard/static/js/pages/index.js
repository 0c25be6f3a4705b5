/**
 * The pages by address. A page is a module with `open(host, match, params)`; it loads when needed.
 * @module
 */

/** @type {{pattern: RegExp, name: string, load: () => Promise<{open: import("../router.js").Open}>}[]} */
export const PAGES = [
  { pattern: /^$/, name: "searches", load: () => import("./searches.js") },
  { pattern: /^new$/, name: "searches", load: () => import("./new_search.js") },
  { pattern: /^search\/([^/]+)\/candidate\/(\d+)$/, name: "searches", load: () => import("./candidate.js") },
  { pattern: /^search\/([^/]+)\/report$/, name: "searches", load: () => import("./report.js") },
  { pattern: /^compare$/, name: "compare", load: () => import("./compare.js") },
  { pattern: /^layer$/, name: "layer", load: () => import("./layer.js") },
  { pattern: /^search\/([^/]+)$/, name: "searches", load: () => import("./search.js") },
];
