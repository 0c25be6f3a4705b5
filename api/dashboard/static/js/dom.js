/**
 * Elements in one expression. Nothing here knows what the page shows.
 * @module
 */

/** @typedef {Node | string | number | null | undefined | false | Array<any>} Child */

/**
 * Makes an element. Keys of `props`: `class`, `on…` (listener), `style` (object), `data` (object),
 * properties that an element has (`value`, `checked`), else attributes; null and false leave out.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...Child} children
 * @returns {any}
 */
export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  apply(made, props);
  append(made, children);
  return made;
}

/**
 * Makes an SVG element; the same keys as `h`.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...Child} children
 * @returns {any}
 */
export function s(tag, props = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  apply(/** @type {any} */ (made), props);
  append(made, children);
  return made;
}

/**
 * @param {any} element
 * @param {Record<string, any>} props
 */
function apply(element, props) {
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on") && typeof value === "function") {
      element.addEventListener(key.slice(2).toLowerCase(), value);
    } else if (key === "class") {
      element.setAttribute("class", Array.isArray(value) ? value.filter(Boolean).join(" ") : value);
    } else if (key === "style" && typeof value === "object") {
      for (const [name, text] of Object.entries(value)) element.style.setProperty(name, String(text));
    } else if (key === "data") {
      Object.assign(element.dataset, value);
    } else if (["value", "checked", "disabled", "indeterminate", "open"].includes(key)) {
      element[key] = value;
    } else {
      element.setAttribute(key, value === true ? "" : String(value));
    }
  }
}

/**
 * @param {Element} parent
 * @param {Child} children
 */
export function append(parent, children) {
  for (const child of /** @type {any[]} */ ([children]).flat(9)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/**
 * Puts these children in the place of all others.
 * @template {Element} E
 * @param {E} parent
 * @param {...Child} children
 * @returns {E}
 */
export function fill(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
  return parent;
}

/**
 * Sets the text, and touches the page only where it differs.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Calls at most once in so many milliseconds, the last time included.
 * @template {(...args: any[]) => void} F
 * @param {F} call
 * @param {number} every
 * @returns {F & {cancel: () => void}}
 */
export function throttled(call, every) {
  let last = 0;
  /** @type {ReturnType<typeof setTimeout> | null} */
  let waiting = null;
  /** @type {any[]} */
  let latest = [];
  const run = () => {
    waiting = null;
    last = performance.now();
    call(...latest);
  };
  const made = /** @type {any} */ (
    (/** @type {any[]} */ ...args) => {
      latest = args;
      if (waiting === null) waiting = setTimeout(run, Math.max(0, last + every - performance.now()));
    }
  );
  made.cancel = () => {
    if (waiting !== null) clearTimeout(waiting);
    waiting = null;
  };
  return made;
}

/**
 * Runs when the browser has nothing better to do.
 * @param {() => void} call
 */
export function whenIdle(call) {
  if ("requestIdleCallback" in window) window.requestIdleCallback(call, { timeout: 1200 });
  else setTimeout(call, 60);
}
