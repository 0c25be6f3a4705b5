/**
 * Formulas as MathML from the service, taken in as data: only elements of MathML, no attributes
 * that lead anywhere.
 * @module
 */
import { getText } from "./api.js";
import { h } from "./dom.js";

const SPACE = "http://www.w3.org/1998/Math/MathML";
const ALLOWED = new Set(["math", "mrow", "mi", "mn", "mo", "mfrac", "msqrt", "mroot", "msub", "msup",
  "msubsup", "munder", "mover", "munderover", "mtext", "mspace", "mtable", "mtr", "mtd", "mfenced",
  "mstyle", "mpadded", "mphantom", "semantics", "apply"]);
const ATTRIBUTES = new Set(["display", "mathvariant", "stretchy", "fence", "separator", "columnalign",
  "form", "accent", "accentunder", "displaystyle", "rowspacing", "width", "largeop", "open", "close"]);

/** @type {Map<string, Promise<Element | null>>} */
const known = new Map();

/**
 * @param {Element} from
 * @returns {Element | null}
 */
function clean(from) {
  if (from.localName.startsWith("annotation")) return null;
  if (!ALLOWED.has(from.localName)) return null;
  const made = document.createElementNS(SPACE, from.localName);
  for (const { name, value } of from.attributes) if (ATTRIBUTES.has(name)) made.setAttribute(name, value);
  for (const child of from.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) made.append(child.textContent ?? "");
    else if (child instanceof Element) {
      const inner = clean(child);
      if (inner) made.append(inner);
    }
  }
  return made;
}

/**
 * @param {string} text
 * @returns {Element | null}
 */
export function parseMath(text) {
  const read = new DOMParser().parseFromString(text, "application/xml");
  const root = read.documentElement;
  return root && root.localName === "math" && !read.querySelector("parsererror") ? clean(root) : null;
}

/**
 * The formula of a candidate; its text until, and unless, the drawn one comes.
 * @param {string} search
 * @param {number} birth
 * @param {string | null} formula
 * @returns {HTMLElement}
 */
export function formulaOf(search, birth, formula) {
  const box = h("div", { class: "math-box", tabindex: "0", role: "group", "aria-label": formula ?? "" },
    h("code", { class: "formula" }, formula ?? ""));
  const key = `${search}/${birth}`;
  if (!known.has(key)) {
    known.set(key, getText(`/searches/${search}/candidates/${birth}/export`, { format: "mathml" })
      .then(parseMath).catch(() => null));
  }
  known.get(key)?.then((made) => {
    if (made) box.replaceChildren(made.cloneNode(true));
    else known.delete(key);
  });
  return box;
}
