/**
 * Candidates side by side, of one search or of several: formulas, gains, curves, properties.
 * @module
 */
import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { gainText, number } from "../format.js";
import { drawGraph } from "../layer/drawing.js";
import { markedFormula } from "../layer/facts.js";
import { gainDots, gainRows, tone } from "../layer/gain.js";
import { responseChart, showCurves } from "../layer/response.js";
import { showTrainings, trainingChart } from "../layer/trainings.js";
import { parseMath } from "../mathml.js";
import { gainUnit, useObjectives } from "../measure.js";
import { href } from "../router.js";
import { T } from "../strings.js";
import { toast } from "../ui.js";
import { key } from "./searches.js";

const C = T.comparePage;

export class CandidateComparison {
  /**
   * @param {HTMLElement} page
   * @param {string[]} names SEARCH-BIRTH
   */
  static async make(page, names) {
    const found = await Promise.allSettled(names.map(async (name) => {
      const cut = name.lastIndexOf("-");
      const [search, birth] = [name.slice(0, cut), name.slice(cut + 1)];
      const path = `/searches/${search}/candidates/${birth}`;
      const [about, response, trainings] = await Promise.all(
        [get(`${path}/about`), get(`${path}/response`), get(`${path}/trainings`)]);
      return { name, search, birth, about, response, trainings };
    }));
    found.forEach((one, place) => {
      if (one.status === "rejected") toast(C.missing(names[place]), { bad: true });
    });
    const rows = found.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    if (!rows.length) throw /** @type {PromiseRejectedResult} */ (found[0]).reason;
    const made = new CandidateComparison(rows);
    made.draw(page);
    return made;
  }

  /** @param {any[]} rows */
  constructor(rows) {
    this.rows = rows;
    useObjectives(rows[0].about.objectives);
    this.batch = 0;
    this.log = true;
    const batches = rows[0].response.curves.map((/** @type {any} */ one, /** @type {number} */ place) =>
      ({ value: String(place), text: T.look.batch(one.mean, one.deviation) }));
    this.response = responseChart("compare-response", h("select", { class: "input compact", "aria-label": C.curvesOf,
      onchange: (/** @type {any} */ event) => {
        this.batch = Number(event.target.value);
        this.drawResponse();
      } }, batches.map((/** @type {any} */ one) => h("option", { value: one.value }, one.text))));
    this.training = trainingChart("compare-training", (log) => {
      this.log = log;
      this.drawTrainings();
    });
    for (const one of [this.response, this.training]) one.element.classList.add("span-6");
  }

  close() {
    this.response.close();
    this.training.close();
  }

  /** @param {HTMLElement} page */
  draw(page) {
    fill(page,
      h("div", { class: "page-head" }, h("h1", {}, `${C.title}: ${C.candidates.toLowerCase()}`)),
      h("div", { class: "grid" },
        h("section", { class: "card span-12", "aria-label": C.candidates },
          h("div", { class: "table-box", tabindex: "0", role: "group", "aria-label": C.candidates }, this.table(this.standing()))),
        this.response.element, this.training.element,
        h("section", { class: "card span-12", "aria-label": C.properties },
          h("div", { class: "table-box", tabindex: "0", role: "group", "aria-label": C.properties }, this.table(this.facts())))));
    this.drawResponse();
    this.drawTrainings();
  }

  /** @param {HTMLElement[]} rows */
  table(rows) {
    return h("table", { class: "compare-table wide-cells", style: { "--columns": this.rows.length } },
      h("thead", {}, h("tr", {}, h("td", {}), this.rows.map((one, place) => h("th", { scope: "col" },
        h("span", { class: "compare-name" }, key(place), h("a", { href: href(`search/${one.search}/candidate/${one.birth}`) }, T.candidatePage.title(one.birth))),
        h("span", { class: "quiet small" }, one.search))))),
      h("tbody", {}, rows));
  }

  /**
   * @param {string} name
   * @param {(one: any, place: number) => any} cell
   */
  row(name, cell) {
    return h("tr", {}, h("th", { scope: "row" }, name), this.rows.map((one, place) => h("td", {}, cell(one, place))));
  }

  /** Who stands where. */
  standing() {
    const gains = this.rows.filter((one) => one.about.gain).flatMap((one) => gainRows(one.about, C.gain))
      .flatMap(({ gain }) => [gain.value, gain.low ?? gain.value, gain.high ?? gain.value, 0]);
    const range = /** @type {[number, number]} */ ([Math.min(0, ...gains), Math.max(0, ...gains)]);
    return [
      this.row(C.formula, ({ about }) => [h("div", { class: "math-box" }, about.mathml ? parseMath(about.mathml) : null),
        h("code", { class: "formula small" }, about.formula)]),
      this.rows.length > 1 && this.row(C.difference, (one, place) => (place === 0 ? h("span", { class: "quiet" }, "–")
        : markedFormula(differing(this.rows[0].about.formula, one.about.formula), "new"))),
      this.row(C.gain, ({ about }) => (about.gain ? [
        h("div", { class: ["table-gain", tone(about.gain)] }, h("strong", {}, `${gainText(about.gain)} ${gainUnit()}`)),
        h("div", { class: about.gain_seeds > 1 ? "small quiet" : "small warn" }, about.gain_seeds > 1
          ? T.candidatePage.confirmed(about.gain_seeds) : T.candidatePage.provisional),
        gainDots(gainRows(about, T.candidatePage.mean), C.gain, range)] : h("span", { class: "quiet" }, about.verdict.reason))),
    ];
  }

  /** What they are. */
  facts() {
    return [
      this.row(T.look.graph, ({ about }) => drawGraph(about.drawing, `graph-${about.birth}`)),
      this.row(C.time, ({ about }) => (about.step_time === null ? number(null) : T.candidatePage.times(number(about.step_time, 2)))),
      ...Object.entries(T.look.facts).map(([name, text]) => this.row(text, ({ about }) => told(about.behaviour[name]))),
    ];
  }

  drawResponse() {
    showCurves(this.response, this.rows[0].response.x, this.rows.map((one) => ({
      name: one.name, output: one.response.curves[this.batch].output, gradient: one.response.curves[this.batch].gradient,
    })));
  }

  drawTrainings() {
    const anchors = [...new Set(this.rows.flatMap((one) => one.trainings.anchors))];
    const names = this.rows.map((one) => one.name);
    const curves = this.rows.flatMap((one) => one.trainings.curves
      .filter((/** @type {any} */ curve) => !curve.baseline && curve.purpose === "search")
      .map((/** @type {any} */ curve) => ({ ...curve, label: one.name })));
    if (!curves.length) {
      this.training.empty(T.candidatePage.noTrainings);
      return;
    }
    showTrainings(this.training, anchors, curves, { log: this.log, mine: (one) => ({ name: one.label, place: names.indexOf(one.label) }) });
  }
}

/** @param {any} value */
function told(value) {
  if (typeof value === "boolean") return value ? T.look.yes : T.look.no;
  if (Array.isArray(value)) return value.join(", ") || T.look.nothing;
  return typeof value === "number" ? number(value, Number.isInteger(value) ? 0 : 1) : value;
}

/**
 * The second text in parts, with what the first lacks marked: longest common run of words.
 * @param {string} before
 * @param {string} after
 * @returns {{text: string, changed: boolean}[]}
 */
export function differing(before, after) {
  const split = (/** @type {string} */ text) => text.match(/\w+|\s+|./g) ?? [];
  const [one, other] = [split(before), split(after)];
  if (one.length * other.length > 250_000) return [{ text: after, changed: before !== after }];
  const table = Array.from({ length: one.length + 1 }, () => new Uint16Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      table[i][j] = one[i] === other[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    }
  }
  /** @type {{text: string, changed: boolean}[]} */
  const parts = [];
  const add = (/** @type {string} */ text, /** @type {boolean} */ changed) => {
    const last = parts[parts.length - 1];
    if (last && last.changed === changed) last.text += text;
    else parts.push({ text, changed });
  };
  let i = 0;
  for (let j = 0; j < other.length; j++) {
    while (i < one.length && one[i] !== other[j] && table[i + 1][j] >= table[i][j + 1]) i++;
    const same = i < one.length && one[i] === other[j];
    if (same) i++;
    add(other[j], !same);
  }
  return parts;
}
