/**
 * Addresses of the page: which view is shown, and what of it stands in the URL.
 * @module
 */
import { ROOT } from "./api.js";

/**
 * A view fills `host`, which is its own, and returns how to leave it; `change` takes new query
 * parameters of the same path, so that a drawer or a filter does not rebuild the page. `signal` is
 * aborted once another page is shown: what waits for an answer then begins nothing more.
 * @typedef {{leave?: () => void, change?: (params: URLSearchParams) => void}} View
 * @typedef {(host: HTMLElement, match: string[], params: URLSearchParams, signal: AbortSignal) => View | Promise<View>} Open
 */

/** @type {{pattern: RegExp, open: Open, name: string}[]} */
const routes = [];
/** @type {View} */
let current = {};
let shown = "";
/** @type {HTMLElement} */
let host;
/** @type {Set<(name: string) => void>} */
const told = new Set();
let visit = new AbortController();

/**
 * @param {RegExp} pattern of the path below the prefix, without its first slash
 * @param {string} name which part of the navigation it belongs to
 * @param {Open} open
 */
export function route(pattern, name, open) {
  routes.push({ pattern, name, open });
}

/**
 * @param {string} path below the prefix, such as `search/k3f`
 * @returns {string}
 */
export function href(path) {
  return ROOT + path;
}

/**
 * @param {string} path below the prefix, with its query
 * @param {{replace?: boolean}} [options]
 */
export function go(path, options = {}) {
  const address = path.startsWith("/") ? path : href(path);
  history[options.replace ? "replaceState" : "pushState"](null, "", address);
  show();
}

/**
 * Changes parameters of the present URL; null takes one out.
 * @param {Record<string, string | null>} changes
 * @param {{replace?: boolean}} [options]
 */
export function setParams(changes, options = { replace: true }) {
  const next = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === "") next.delete(key);
    else next.set(key, value);
  }
  const text = next.toString();
  go(location.pathname + (text ? `?${text}` : ""), options);
}

/** @returns {URLSearchParams} */
export function params() {
  return new URLSearchParams(location.search);
}

/** @param {(name: string) => void} call */
export function onRoute(call) {
  told.add(call);
}

/**
 * @param {HTMLElement} element
 */
export function start(element) {
  host = element;
  window.addEventListener("popstate", show);
  document.addEventListener("click", (event) => {
    const link = /** @type {Element} */ (event.target).closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement) || event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || link.target || link.download) return;
    if (link.origin !== location.origin || !link.pathname.startsWith(ROOT)) return;
    if (link.pathname.startsWith(`${ROOT}api/`) || link.hash) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
  show();
}

async function show() {
  if (location.pathname === shown) {
    current.change?.(params());
    return;
  }
  visit.abort();
  const mine = (visit = new AbortController());
  current.leave?.();
  current = {};
  shown = location.pathname;
  const place = document.createElement("div");
  host.replaceChildren(place);
  window.scrollTo(0, 0);
  const path = decodeURIComponent(location.pathname.slice(ROOT.length));
  for (const { pattern, open, name } of routes) {
    const match = pattern.exec(path);
    if (!match) continue;
    for (const call of told) call(name);
    const made = await open(place, match.slice(1), params(), mine.signal);
    if (mine === visit) current = made;
    else made.leave?.();
    return;
  }
}
