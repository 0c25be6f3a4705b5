/**
 * Things side by side: searches, or candidates. What is compared stands in the address.
 * @module
 */
import { allSearches } from "../api.js";
import { fill, h } from "../dom.js";
import { count, moment } from "../format.js";
import { statePill } from "../parts.js";
import { SERIES } from "../plot.js";
import { go } from "../router.js";
import { T } from "../strings.js";
import { button, emptyState, errorState, loadingState } from "../ui.js";
import { CandidateComparison } from "../compare/candidates.js";
import { SearchComparison } from "../compare/searches.js";

const C = T.comparePage;
/** Searches beside each other: as many as there are colours and shapes. */
const MOST = SERIES.length;

/** @type {import("../router.js").Open} */
export async function open(host, _match, params) {
  document.title = `${C.title} · evosearch`;
  /** @type {{close: () => void} | null} */
  let shown = null;
  let left = false;
  const show = async (/** @type {URLSearchParams} */ wanted) => {
    shown?.close();
    shown = null;
    const page = h("div", { class: "page compare-page" }, loadingState(6));
    fill(host, page);
    try {
      const made = await build(page, wanted);
      if (left) made?.close();
      else shown = made;
    } catch (err) {
      fill(page, h("div", { class: "card" }, errorState(err, () => show(wanted))));
    }
  };
  await show(params);
  return {
    leave: () => {
      left = true;
      shown?.close();
    },
    change: show,
  };
}

/**
 * @param {HTMLElement} page
 * @param {URLSearchParams} wanted
 */
async function build(page, wanted) {
  const candidates = [...new Set(wanted.getAll("candidate"))].slice(0, 8);
  const asked = [...new Set(wanted.getAll("search"))];
  const searches = asked.slice(0, MOST);
  if (candidates.length) return CandidateComparison.make(page, candidates);
  if (searches.length > 1) return SearchComparison.make(page, searches, asked.length - searches.length);
  await choose(page, new Set(searches));
  return null;
}

/**
 * The list to choose from.
 * @param {HTMLElement} page
 * @param {Set<string>} picked
 */
async function choose(page, picked) {
  const searches = await allSearches({ archived: false });
  const compare = button(C.go, () => go(`compare?${[...picked].map((id) => `search=${id}`).join("&")}`),
    { icon: "compare", kind: "primary", id: "compare-go" });
  const tell = () => {
    compare.disabled = picked.size < 2;
  };
  tell();
  const rows = searches.map((/** @type {any} */ one) => {
    const mark = h("input", { type: "checkbox", id: `pick-${one.id}`, checked: picked.has(one.id), onchange: () => {
      if (mark.checked) picked.add(one.id);
      else picked.delete(one.id);
      tell();
    } });
    return h("label", { class: "choose-row", for: `pick-${one.id}` }, mark, h("strong", {}, one.title), statePill(one.status),
      h("span", { class: "spacer" }), h("span", { class: "quiet small" }, `${count(one.evaluated)} ${T.searches.evaluated}, ${moment(one.created_at)}`));
  });
  fill(page,
    h("div", { class: "page-head" }, h("h1", {}, C.title), h("div", { class: "spacer" }), rows.length > 1 && compare),
    h("section", { class: "card", "aria-label": C.choose },
      h("div", { class: "card-head" }, h("h2", {}, C.choose)),
      h("div", { class: "card-body" }, h("p", { class: "quiet" }, C.chooseHelp),
        rows.length ? h("div", { class: "choose-list" }, rows) : emptyState(C.none, null, "compare"))));
}
