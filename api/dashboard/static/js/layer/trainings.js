/**
 * Training curves of a candidate, one panel an anchor, the baselines beside it.
 * @module
 */
import { Chart, series } from "../plot.js";
import { T } from "../strings.js";
import { segments } from "../ui.js";

/**
 * @typedef {{label: string, baseline: boolean, anchor: string, purpose: string, seed: number,
 *            learning_rate: number, split: string, score: number, diverged: boolean,
 *            steps: number[], losses: (number | null)[]}} Training
 */

const DECADES = [0.001, 0.01, 0.1, 1, 10, 100].flatMap((one) => [one, 2 * one, 5 * one]);
const TICKS = { tickvals: DECADES, ticktext: DECADES.map((one) => String(Number(one.toPrecision(1)))) };

/**
 * Panels side by side, or below each other where the card is narrow.
 * @param {number} count
 * @param {boolean} narrow
 * @returns {{x: [number, number], y: [number, number]}[]}
 */
export function panels(count, narrow) {
  const across = narrow ? 1 : Math.min(count, 3);
  const down = Math.ceil(count / across);
  return Array.from({ length: count }, (_, place) => {
    const [column, row] = [place % across, Math.floor(place / across)];
    const [width, height] = [1 / across, 1 / down];
    return {
      x: [column * width + (column ? 0.03 : 0), (column + 1) * width - (column < across - 1 ? 0.03 : 0)],
      y: [1 - (row + 1) * height + (row < down - 1 ? 0.06 : 0), 1 - row * height - (down > 1 ? 0.05 : 0.06)],
    };
  });
}

/**
 * @param {Chart} chart
 * @param {string[]} anchors
 * @param {Training[]} curves
 * @param {{log: boolean, mine: (one: Training) => {name: string, place: number} | null}} options
 *   `mine`: name and colour of a curve that is not a baseline's
 */
export function showTrainings(chart, anchors, curves, options) {
  const baselines = [...new Set(curves.filter((one) => one.baseline).map((one) => one.label))].slice(0, 5);
  chart.show(() => {
    const narrow = chart.plot.clientWidth < 620;
    const places = panels(anchors.length, narrow);
    const seen = new Set();
    const traces = [...curves].sort((a, b) => Number(b.baseline) - Number(a.baseline)).flatMap((one) => {
      const panel = anchors.indexOf(one.anchor);
      const mine = one.baseline ? null : options.mine(one);
      if (panel < 0 || (!mine && !baselines.includes(one.label))) return [];
      const look = series(mine ? mine.place : 1 + baselines.indexOf(one.label));
      const name = mine ? mine.name : one.label;
      const first = !seen.has(name);
      seen.add(name);
      const main = mine && (one.purpose === "search" || first);
      return [{
        x: one.steps, y: one.losses, name, legendgroup: name, showlegend: first, mode: "lines",
        opacity: mine ? (main ? 1 : 0.4) : 0.85, xaxis: axis("x", panel), yaxis: axis("y", panel),
        line: { color: look.colour, dash: look.dash, width: main ? 2.6 : mine ? 1.2 : 1.5 },
        hovertemplate: `%{y:.3g}<extra>${name}, ${one.purpose}</extra>`,
      }];
    });
    const layout = { showlegend: true, margin: { l: 40, r: 8, t: 8, b: 34 }, annotations: [] };
    anchors.forEach((anchor, panel) => {
      const place = places[panel];
      const last = narrow ? panel === anchors.length - 1 : true;
      Object.assign(layout, {
        [key("xaxis", panel)]: { domain: place.x, anchor: axis("y", panel), title: last ? T.candidatePage.step : "" },
        [key("yaxis", panel)]: { domain: place.y, anchor: axis("x", panel), type: options.log ? "log" : "linear",
                                 title: panel === 0 ? T.candidatePage.loss : "", ...(options.log ? TICKS : {}) },
      });
      /** @type {any[]} */ (layout.annotations).push({ text: `<b>${anchor}</b>`, xref: "paper", yref: "paper",
        x: (place.x[0] + place.x[1]) / 2, y: place.y[1], yanchor: "bottom", showarrow: false });
    });
    return {
      traces, layout,
      table: {
        columns: ["layer", "anchor", "for", "seed", "learning_rate", "step", "loss"],
        rows: curves.flatMap((one) => one.steps.map((step, i) =>
          [one.label, one.anchor, one.purpose, one.seed, one.learning_rate, step, one.losses[i]])),
      },
    };
  });
}

/**
 * @param {string} name of the files that it is saved in
 * @param {(log: boolean) => void} rescale
 */
export function trainingChart(name, rescale) {
  const scale = segments([{ value: "log", text: T.candidatePage.log }, { value: "linear", text: T.candidatePage.linear }],
    "log", (value) => rescale(value === "log"), T.candidatePage.scale);
  const made = new Chart({ title: T.candidatePage.trainings, tip: T.candidatePage.trainingsTip, name, controls: scale,
                           height: "330px", alt: () => T.candidatePage.trainingsAlt });
  made.element.classList.add("tall");
  made.plot.setAttribute("aria-label", T.candidatePage.trainings);
  return made;
}

/** @param {string} letter @param {number} panel */
function axis(letter, panel) {
  return letter + (panel ? panel + 1 : "");
}

/** @param {string} name @param {number} panel */
function key(name, panel) {
  return name + (panel ? panel + 1 : "");
}
