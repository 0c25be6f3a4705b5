/**
 * Taking a layer home: every format with its download and a few lines on how to use it.
 * @module
 */
import { saveResponse } from "../api.js";
import { fill, h } from "../dom.js";
import { T } from "../strings.js";
import { button, toastProblem } from "../ui.js";
import { copyText } from "./facts.js";

/**
 * @typedef {{format: string, title: string, language: string, file: string, snippet: string}} Usage
 */

/**
 * @param {Usage[]} usage
 * @param {(format: string) => Promise<Response>} fetch asks for the file
 * @returns {HTMLElement}
 */
export function exportPanel(usage, fetch) {
  const P = T.candidatePage;
  const list = h("div", { class: "export-formats", role: "radiogroup", "aria-label": P.formats });
  const detail = h("div", { class: "export-detail" });
  /** @type {Map<string, HTMLElement>} */
  const made = new Map();
  const choose = (/** @type {Usage} */ one, focus = false) => {
    for (const [format, entry] of made) {
      entry.setAttribute("aria-checked", String(format === one.format));
      entry.tabIndex = format === one.format ? 0 : -1;
    }
    if (focus) made.get(one.format)?.focus();
    const save = button(P.download, () => download(save, one, fetch), { icon: "download", kind: "primary", id: "download" });
    fill(detail,
      h("div", { class: "export-head" }, save, h("code", { class: "quiet" }, one.file)),
      h("div", { class: "snippet" },
        h("div", { class: "snippet-head" }, h("h3", {}, P.snippet), h("span", { class: "quiet small" }, one.language), h("span", { class: "spacer" }),
          button(T.look.copy, () => copyText(one.snippet), { icon: "copy", kind: "plain" })),
        h("pre", { tabindex: "0" }, h("code", {}, one.snippet))));
  };
  usage.forEach((one, place) => {
    const entry = h("button", { type: "button", role: "radio", onclick: () => choose(one), onkeydown: (/** @type {KeyboardEvent} */ event) => {
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      choose(usage[(place + step + usage.length) % usage.length], true);
    } }, one.title);
    made.set(one.format, entry);
    list.append(entry);
  });
  choose(usage[0]);
  return h("div", { class: "exports" }, list, detail);
}

/**
 * @param {HTMLButtonElement} save
 * @param {Usage} one
 * @param {(format: string) => Promise<Response>} fetch
 */
async function download(save, one, fetch) {
  save.disabled = true;
  save.lastChild?.replaceWith(T.candidatePage.preparing);
  try {
    await saveResponse(await fetch(one.format), one.file);
  } catch (err) {
    toastProblem(err);
  }
  save.disabled = false;
  save.lastChild?.replaceWith(T.candidatePage.download);
}
