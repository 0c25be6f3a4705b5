/**
 * The verdict: does anything beat the better baseline, surely; and what is new since last time.
 * @module
 */
import { post, request, saveResponse, url } from "../api.js";
import { fill, h, s } from "../dom.js";
import { dotSource } from "../dots.js";
import { duration, gainText } from "../format.js";
import { formulaOf } from "../mathml.js";
import { finalTone } from "../layer/gain.js";
import { gainUnit, meaning } from "../measure.js";
import { saveButton } from "../pictures.js";
import { href } from "../router.js";
import { T } from "../strings.js";
import { ask, button, emptyState, errorState, loadingState, openMenu, toast, toastProblem, word } from "../ui.js";

/**
 * The menu of exports of a candidate.
 * @param {HTMLElement} anchor
 * @param {string} search
 * @param {number} birth
 */
export function exportMenu(anchor, search, birth) {
  openMenu(anchor, Object.entries(T.exports).map(([form, text]) => ({ text, icon: "download", run: async () => {
    try {
      const answer = await request("GET", url(`/searches/${search}/candidates/${birth}/export`, { format: form }));
      await saveResponse(answer, `layer-${birth}`);
    } catch (err) {
      toastProblem(err);
    }
  } })));
}

/**
 * Asks for fresh seeds; where the search takes no commands it says so instead.
 * @param {import("./model.js").Model} model
 * @param {number} birth
 */
export function remeasureButton(model, birth) {
  const alive = takesCommands(model);
  const made = button(T.verdict.remeasure, () => {
    if (takesCommands(model)) remeasure(model.id, birth);
    else toast(T.verdict.remeasureOver);
  }, { icon: "repeat", tip: alive ? undefined : T.verdict.remeasureOver });
  made.classList.add("remeasure");
  if (!alive) made.setAttribute("aria-disabled", "true");
  return made;
}

/** @param {import("./model.js").Model} model */
export const takesCommands = (model) => ["running", "paused"].includes(model.data.search?.status);

/**
 * @param {string} search
 * @param {number} birth
 */
async function remeasure(search, birth) {
  const field = h("input", { class: "input", id: "seeds", type: "number", min: "1", max: "20", value: "2", required: true });
  const sure = await ask({ title: T.verdict.remeasureTitle, ok: T.verdict.remeasure, body: h("div", { class: "field" },
    h("label", { for: "seeds" }, T.verdict.remeasureLabel), field) });
  if (!sure) return;
  try {
    await post(`/searches/${search}/candidates/${birth}/remeasure`, { seeds: Number(field.value) });
    toast(T.search.asked.remeasure);
  } catch (err) {
    toastProblem(err);
  }
}

/**
 * One dot with its interval a row, around a line at zero.
 * @param {{name: string, gain: {value: number, low: number | null, high: number | null}, strong?: boolean}[]} rows
 * @param {string} label
 * @returns {HTMLElement}
 */
export function intervals(rows, label) {
  const ends = rows.flatMap(({ gain }) => [gain.value, gain.low ?? gain.value, gain.high ?? gain.value, 0]);
  const low = Math.min(...ends);
  const high = Math.max(...ends);
  const pad = (high - low || 0.01) * 0.06;
  const at = (/** @type {number} */ value) => (100 * (value - low + pad)) / (high - low + 2 * pad);
  return h("div", { class: "intervals", role: "list", "aria-label": label }, rows.map(({ name, gain, strong }) => {
    const sure = gain.low !== null && gain.low > 0 ? "good" : gain.high !== null && gain.high < 0 ? "bad" : "open";
    return h("div", { class: ["interval", strong && "strong"], role: "listitem" },
      h("span", { class: "interval-name" }, name),
      s("svg", { width: "100%", height: "18", "aria-hidden": "true" },
        s("line", { x1: `${at(0)}%`, x2: `${at(0)}%`, y1: "0", y2: "18", class: "zero" }),
        gain.low !== null && s("line", { x1: `${at(gain.low)}%`, x2: `${at(gain.high ?? gain.value)}%`, y1: "9", y2: "9", class: `bar ${sure}` }),
        s("circle", { cx: `${at(gain.value)}%`, cy: "9", r: strong ? "5" : "4", class: `mark ${sure}` })),
      h("span", { class: "interval-value" }, gainText(gain)));
  }));
}

/** Nothing of the page's filters but what a link sets. @type {Record<string, any>} */
const UNFILTERED = { brush: null, starred: null };

export class VerdictCard {
  /**
   * @param {import("./model.js").Model} model
   * @param {{openDrawer: (birth: number) => void, addToTray: (birth: number) => void,
   *          showTab: (tab: string, extra?: Record<string, string>) => void}} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.body = h("div", { class: "card-body verdict-body" }, loadingState(4));
    this.since = h("div", { class: "since", hidden: true });
    this.save = saveButton(dotSource("verdict", () => this.rows()));
    this.save.hidden = true;
    this.element = h("section", { class: "card verdict-card", "aria-label": T.verdict.title },
      h("div", { class: "card-head" }, h("h2", { tabindex: "0", data: { tip: T.verdict.tip } }, T.verdict.title), h("div", { class: "spacer" }), this.save),
      this.body, this.since);
    this.body.addEventListener("pointerleave", () => this.draw());
    model.on("line", () => this.draw());
    model.on("search", () => this.draw());
    /** What is shown, as text. @type {string | null} */
    this._sign = null;
    /** @type {string | null} */
    this._since = null;
    model.on("since", () => this.drawSince());
  }

  draw() {
    const { line } = this.model.data;
    if (!line) {
      if (this.model.errors.line) fill(this.body, errorState(this.model.errors.line, () => this.model.load("line")));
      return;
    }
    const sign = JSON.stringify([line.verdict, takesCommands(this.model)]);
    if (sign === this._sign || (this._sign && this.body.matches(":hover"))) return;
    this._sign = sign;
    const { verdict } = line;
    this.save.hidden = !verdict.leader;
    if (!verdict.leader) {
      const text = verdict.outcome === "no_baseline" ? T.verdict.noBaseline : T.verdict.nothingYet;
      fill(this.body, emptyState(text, T.verdict.nothingYetHelp));
      return;
    }
    const { leader } = verdict;
    const outcome = /** @type {"ahead"} */ (verdict.outcome);
    const tone = { ahead_surely: "good", ahead: "open", behind: "behind" }[outcome] ?? "open";
    const title = { ahead_surely: T.verdict.sure, ahead: T.verdict.unsure(verdict.baseline),
                    behind: T.verdict.nothing(verdict.baseline) }[outcome];
    const link = h("button", { type: "button", class: "linklike", onclick: () => this.page.openDrawer(leader.birth) },
      `${T.verdict.candidate} ${leader.birth}`);
    const behind = outcome === "behind";
    const actions = button(T.verdict.export, () => exportMenu(actions, this.model.id, leader.birth),
      { icon: "download", kind: "primary", id: "export" });
    fill(this.body,
      h("div", { class: "verdict-top" },
        h("div", { class: ["headline", tone] },
          h("span", { class: "small quiet" }, title, " ", !behind && [link, " "]),
          h("strong", {}, gainText(leader.gain)), " ",
          h("span", { class: "over" }, T.verdict[behind ? "against" : "over"](verdict.baseline, gainUnit(), meaning())),
          h("span", { class: "small quiet" }, behind && [link, ", "],
            leader.confirmed ? [word("confirmed", T.verdict.confirmed), `, ${T.verdict.seeds(leader.seeds)}`] : word("provisional", T.verdict.provisional)),
          h("span", { class: "small quiet" }, T.verdict.others(verdict.ahead_provisional, verdict.ahead_confirmed))),
        verdict.final && h("div", { class: "final-box" },
          h("span", { class: "small quiet" }, word("final", T.verdict.finalTitle)),
          h("strong", { class: finalTone(verdict.final) }, gainText(verdict.final.gain)),
          h("span", { class: "small quiet" }, T.verdict.finalNote(verdict.final.seeds, verdict.final.images, verdict.final.layers_judged)))),
      formulaOf(this.model.id, leader.birth, leader.formula),
      intervals(this.rows(), T.verdict.perAnchor),
      h("div", { class: "actions no-print" }, actions,
        remeasureButton(this.model, leader.birth),
        button(T.verdict.compare, () => this.page.addToTray(leader.birth), { icon: "compare" }),
        h("a", { class: "button plain", href: href(`search/${this.model.id}/candidate/${leader.birth}`) }, T.verdict.openPage)));
  }

  /** A row an anchor, and one for the mean. */
  rows() {
    const { leader } = this.model.data.line.verdict;
    return [...leader.anchors.map((/** @type {any} */ one) => ({ name: one.anchor, gain: one.gain })),
            { name: T.verdict.mean, gain: leader.gain, strong: true }];
  }

  /** What the reader missed; drawn anew where it says something else, and not under the pointer. */
  drawSince() {
    const found = this.model.data.since;
    this.since.hidden = !found || !this.model.visitedAt;
    if (this.since.hidden) return;
    const span = duration((Date.now() - (this.model.visitedAt ?? 0)) / 1000);
    const news = this.news(found);
    const sign = JSON.stringify([found.event, found.leader_now, span, news.map((one) => one.text)]);
    if (sign === this._since) return;
    if (this._since && (this.since.matches(":hover") || this.since.contains(document.activeElement))) return;
    this._since = sign;
    fill(this.since, h("span", { class: "quiet" }, T.verdict.since(span), " "),
      news.length ? news.map(({ text, run }, i) => [i ? " · " : "", h("button", { type: "button", class: "linklike", onclick: run }, text)])
        : T.verdict.sinceNothing);
  }

  /**
   * Each with the way to just what it speaks of.
   * @param {any} found
   * @returns {{text: string, run: () => void}[]}
   */
  news(found) {
    const table = (/** @type {string} */ where) => () => this.page.showTab("candidates", { ...UNFILTERED, where, sort: "-finished_at" });
    const after = `outcome > ${found.event}`;
    const births = found.front.map((/** @type {any} */ one) => one.birth);
    const all = births.length === found.new_on_front;
    return [
      found.evaluated && { text: T.verdict.sinceEvaluated(found.evaluated), run: table(after) },
      found.new_on_front && { text: T.verdict.sinceFront(found.new_on_front),
        run: table(all ? `birth in (${births.join(", ")})` : `on_front and ${after}`) },
      found.leader_now !== null && found.leader_now !== found.leader_before
        && { text: T.verdict.sinceLeader(found.leader_now), run: () => this.page.openDrawer(found.leader_now) },
      found.workers_lost && { text: T.verdict.sinceLost(found.workers_lost),
        run: () => this.page.showTab("events", { kind: "lost", after: String(found.event) }) },
    ].filter(Boolean);
  }
}
