/**
 * Tables of one candidate: its scores with seeds and intervals, and what the checks found.
 * @module
 */
import { h, s } from "../dom.js";
import { duration, number, score } from "../format.js";
import { icon } from "../icons.js";
import { shortTitle } from "../measure.js";
import { T, WORDS } from "../strings.js";
import { word } from "../ui.js";

/**
 * @typedef {{purpose: string, split: string, anchor: string, learning_rate: number, scores: number[],
 *            seeds: number[], mean: {value: number, low: number | null, high: number | null}}} Scores
 */

/**
 * @param {Scores[]} rows
 * @returns {HTMLElement}
 */
export function scoreTable(rows) {
  const C = T.candidatePage.columns;
  // Bad learning rates would squash all else; they may lie beyond the left end.
  const usual = rows.filter((row) => row.purpose !== "tune");
  const all = (usual.length ? usual : rows).flatMap((row) => row.scores);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  return h("div", { class: "table-box", tabindex: "0", role: "group", "aria-label": T.candidatePage.scores },
    h("table", { class: "plain-table" },
      h("thead", {}, h("tr", {}, [C.purpose, C.anchor, C.rate, C.seeds, C.mean, C.each].map((text, place) =>
        h("th", { scope: "col", class: place > 1 && place < 5 ? "number" : "" }, text)))),
      h("tbody", {}, rows.map((row) => h("tr", { class: row.split === "final" ? "final-row" : "" },
        h("td", {}, T.candidatePage.purposes[/** @type {"search"} */ (row.purpose)] ?? row.purpose),
        h("td", {}, shortTitle(row.anchor)), h("td", { class: "number" }, String(row.learning_rate)),
        h("td", { class: "number" }, String(row.seeds.length)),
        h("td", { class: "number" }, score(row.mean.value, row.anchor),
          row.mean.low !== null && h("small", { class: "quiet" }, ` [${[row.mean.low, row.mean.high ?? row.mean.low].map((one) => score(one, row.anchor)).join(", ")}]`)),
        h("td", {}, strip(row, low, high)))))));
}

/**
 * Each seed as a tick, the mean with its interval over it, on one scale for all rows.
 * @param {Scores} row
 * @param {number} low
 * @param {number} high
 */
function strip(row, low, high) {
  const share = (/** @type {number} */ value) => Math.max(0, Math.min(1, (value - low) / (high - low || 1)));
  const at = (/** @type {number} */ value) => `${(4 + 92 * share(value)).toFixed(2)}%`;
  if (row.mean.value < low) {
    return s("svg", { class: "strip", width: "100%", height: "18", role: "img", "aria-label": row.scores.map((one) => score(one, row.anchor)).join(", ") },
      s("path", { d: "M9 4 3 9l6 5z", class: "beyond" }));
  }
  return s("svg", { class: "strip", width: "100%", height: "18", role: "img", "aria-label": row.scores.map((one) => score(one, row.anchor)).join(", ") },
    row.scores.map((one) => s("line", { x1: at(one), x2: at(one), y1: "4", y2: "14", class: "tick" })),
    row.mean.low !== null && s("line", { x1: at(row.mean.low), x2: at(/** @type {number} */ (row.mean.high)), y1: "9", y2: "9", class: "whisker" }),
    row.scores.length > 1 && s("circle", { cx: at(row.mean.value), cy: "9", r: "3.5", class: "mark" }));
}

/**
 * @param {{check_name: string, anchor: string, code: string | null, detail: string, seconds: number,
 *          steps: number, findings: Record<string, number | string>, audited: boolean}[]} runs
 * @returns {HTMLElement}
 */
export function checkTable(runs) {
  return h("ul", { class: "check-list" }, runs.map((run) => h("li", { class: run.code ? "bad" : "good" },
    icon(run.code ? "cross" : "check"),
    h("div", {},
      h("div", { class: "check-name" }, h("strong", {}, WORDS[run.code ?? ""] ? word(run.code ?? "", run.check_name) : WORDS[run.check_name] ? word(run.check_name) : run.check_name), " ", h("span", { class: "quiet" }, run.anchor),
        run.audited && h("span", { class: "pill", tabindex: "0", data: { tip: WORDS.audit } }, T.candidatePage.audited), h("span", { class: "spacer" }),
        h("span", { class: "quiet small" }, duration(run.seconds))),
      h("div", { class: "small quiet" }, run.detail || Object.entries(run.findings).map(([name, value]) =>
        `${name.replaceAll("_", " ")} ${typeof value === "number" ? Number(value.toPrecision(3)) : value}`).join(", "))))));
}
