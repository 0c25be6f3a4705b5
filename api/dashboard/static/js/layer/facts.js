/**
 * What a layer is: its formula, typeset and as text, and its properties.
 * @module
 */
import { fill, h } from "../dom.js";
import { number } from "../format.js";
import { icon } from "../icons.js";
import { T } from "../strings.js";
import { button, toast, word } from "../ui.js";
import { parseMath } from "../mathml.js";

/**
 * @param {string} text
 * @param {string} [told]
 */
export async function copyText(text, told = T.look.copied) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without a secure context there is no clipboard; a selection can still be copied.
    const field = h("textarea", { class: "visually-hidden" }, text);
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  toast(told);
}

/**
 * The formula, large, with its text below.
 * @param {{formula: string, mathml: string | null, known_as: string | null}} look
 * @returns {HTMLElement[]}
 */
export function formulaParts(look) {
  const typeset = look.mathml ? parseMath(look.mathml) : null;
  return [
    h("div", { class: "math-box big-math", tabindex: "0", role: "group", "aria-label": look.formula },
      typeset ?? h("p", { class: "quiet" }, T.look.tooLong)),
    h("div", { class: "formula-line" },
      h("code", { class: "formula" }, look.formula),
      button("", () => copyText(look.formula), { icon: "copy", kind: "plain", title: T.look.copy })),
  ];
}

/** @param {string} name of the catalog, such as bn-relu; people write BN-ReLU */
function known(name) {
  const words = { relu: "ReLU", silu: "SiLU", gelu: "GELU", evonorm: "EvoNorm" };
  return name.split("-").map((word) => words[/** @type {"relu"} */ (word)] ?? word.toUpperCase()).join("-");
}

/** @param {string | null} name */
export function knownPill(name) {
  return name && h("span", { class: "pill warn", tabindex: "0", data: { tip: T.look.knownTip } }, T.look.knownAs(known(name)));
}

const TOLD = ["live_nodes", "batch_independent"];

/**
 * @param {Record<string, any>} behaviour
 * @returns {HTMLElement}
 */
export function propertyList(behaviour) {
  return h("dl", { class: "facts" }, Object.entries(T.look.facts).map(([key, name]) => [
    h("dt", {}, TOLD.includes(key) ? word(key, name) : name), h("dd", {}, shown(behaviour[key])),
  ]));
}

/** @param {any} value */
function shown(value) {
  if (value === true) return h("span", { class: "yes" }, icon("check"), T.look.yes);
  if (value === false) return h("span", { class: "no" }, icon("cross"), T.look.no);
  if (Array.isArray(value)) return value.join(", ") || T.look.nothing;
  if (typeof value === "number") return number(value, Number.isInteger(value) ? 0 : 1);
  return value;
}

/**
 * A card with a title and a body that is filled later.
 * @param {string} title
 * @param {{tip?: string, span?: string, head?: any, className?: string}} [options]
 */
export function card(title, options = {}) {
  const body = h("div", { class: "card-body" });
  const head = h("h2", options.tip ? { tabindex: "0", data: { tip: options.tip } } : {}, title);
  const element = h("section", { class: ["card", options.span, options.className], "aria-label": title },
    h("div", { class: "card-head" }, head, h("div", { class: "spacer" }), options.head), body);
  return { element, body, set: (/** @type {any[]} */ ...children) => fill(body, children),
           tip: (/** @type {string} */ text) => {
             head.dataset.tip = text;
           } };
}

/**
 * A formula in parts, with what changed marked.
 * @param {{text: string, changed: boolean}[]} parts
 * @param {"gone" | "new"} kind
 */
export function markedFormula(parts, kind) {
  return h("code", { class: "formula" }, parts.map((part) =>
    part.changed ? h(kind === "new" ? "ins" : "del", { class: kind }, part.text) : part.text));
}
