/**
 * What the browser keeps for the page. Storage may be forbidden, full or hold rubbish: then nothing
 * is kept, and the page works without it.
 * @module
 */

/**
 * @param {string} key
 * @param {"local" | "session"} [where] session: until the browser is closed
 * @returns {any} what `keep` was given, or null
 */
export function recall(key, where = "local") {
  try {
    return JSON.parse(storage(where).getItem(key) ?? "null");
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {any} value as JSON; null forgets it
 * @param {"local" | "session"} [where]
 */
export function keep(key, value, where = "local") {
  try {
    if (value === null) storage(where).removeItem(key);
    else storage(where).setItem(key, JSON.stringify(value));
  } catch {
    // It is for the reader's comfort alone.
  }
}

/** @param {"local" | "session"} where; reading the property itself may throw */
function storage(where) {
  return where === "local" ? window.localStorage : window.sessionStorage;
}
