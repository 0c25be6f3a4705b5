/**
 * Parents and children of a candidate, with what changed from the one to the other marked.
 * @module
 */
import { h } from "../dom.js";
import { count, points } from "../format.js";
import { gainUnit } from "../measure.js";
import { href } from "../router.js";
import { T } from "../strings.js";
import { markedFormula } from "./facts.js";

/**
 * @param {string} search
 * @param {any} family
 * @returns {HTMLElement[]}
 */
export function familyParts(search, family) {
  const { parents, children, children_total: total } = family;
  const P = T.candidatePage;
  return [
    h("h3", { class: "family-title" }, P.parents),
    parents.length ? parents.map((/** @type {any} */ one) => relative(search, one, "parent"))
      : h("p", { class: "quiet" }, P.noParents),
    h("h3", { class: "family-title" }, total ? `${P.children} (${count(total)})` : P.children),
    children.length ? children.map((/** @type {any} */ one) => relative(search, one, "child"))
      : h("p", { class: "quiet" }, P.noChildren),
    total > children.length && h("p", { class: "quiet small" }, P.moreChildren(total - children.length)),
  ].flat().filter(Boolean);
}

/**
 * @param {string} search
 * @param {any} one
 * @param {"parent" | "child"} kind
 */
function relative(search, one, kind) {
  const P = T.candidatePage;
  const standing = one.gain === null ? one.state : `${points(one.gain)} ${gainUnit()}`;
  return h("article", { class: ["relative", one.on_front && "front"] },
    h("header", {},
      h("a", { href: href(`search/${search}/candidate/${one.birth}`) }, P.title(one.birth)),
      one.on_front && h("span", { class: "pill accent" }, P.onFront),
      h("span", { class: ["quiet small"] }, one.origin), h("span", { class: "spacer" }),
      h("strong", { class: one.gain === null ? "quiet" : one.gain > 0 ? "good" : "" }, standing)),
    h("div", { class: "difference" },
      h("span", { class: "quiet small" }, kind === "parent" ? P.parentHad : P.childHas), markedFormula(one.before, "gone"),
      h("span", { class: "quiet small" }, kind === "parent" ? P.childHas : P.theirs), markedFormula(one.after, "new")),
    one.changes.length > 0 && h("ul", { class: "node-changes small" }, one.changes.slice(0, 12).map((/** @type {any} */ change) =>
      h("li", {}, h("span", { class: "quiet" }, P.node(change.node)), " ",
        h("code", {}, change.before ?? P.gone), " → ", h("code", {}, change.after ?? P.gone)))));
}
