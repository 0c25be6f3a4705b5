/**
 * Response curves: output and gradient against input, one curve a batch, or one a candidate.
 * @module
 */
import { Chart, series } from "../plot.js";
import { T } from "../strings.js";

/**
 * @typedef {{mean: number, deviation: number, output: (number | null)[], gradient: (number | null)[]}} Curve
 * @typedef {{x: number[], curves: Curve[]}} Response
 */

/**
 * Values that would squash everything else are cut off; a range for the axis.
 * @param {(number | null)[][]} all
 * @returns {[number, number] | undefined}
 */
export function sensibleRange(all) {
  const values = /** @type {number[]} */ (all.flat().filter((one) => one !== null)).sort((a, b) => a - b);
  if (values.length < 8) return undefined;
  const at = (/** @type {number} */ share) => values[Math.round(share * (values.length - 1))];
  const [low, high] = [at(0.02), at(0.98)];
  const spread = high - low || Math.max(1, Math.abs(high));
  const [first, last] = [values[0], values[values.length - 1]];
  const pad = 0.08 * spread;
  return [Math.max(first, low - 0.5 * spread) - pad, Math.min(last, high + 0.5 * spread) + pad];
}

/**
 * @param {string} name of the files that it is saved in
 * @param {any} [controls]
 */
export function responseChart(name, controls) {
  const made = new Chart({ title: T.look.response, tip: T.look.responseTip, name, controls, height: "330px",
                           alt: () => T.look.responseAlt });
  made.element.classList.add("tall");
  made.plot.setAttribute("aria-label", T.look.response);
  return made;
}

/**
 * Two panels, output and gradient, of named curves.
 * @param {Chart} chart
 * @param {number[]} x
 * @param {{name: string, output: (number | null)[], gradient: (number | null)[]}[]} curves
 */
export function showCurves(chart, x, curves) {
  chart.show(() => {
    const narrow = chart.plot.clientWidth < 560;
    const traces = curves.flatMap((curve, place) => {
      const look = series(place);
      const line = { color: look.colour, dash: look.dash, width: 2 };
      return [
        { x, y: curve.output, name: curve.name, mode: "lines", line, legendgroup: curve.name,
          hovertemplate: `%{y:.3g}<extra>${curve.name}</extra>` },
        { x, y: curve.gradient, name: curve.name, mode: "lines", line, legendgroup: curve.name,
          showlegend: false, xaxis: "x2", yaxis: "y2", hovertemplate: `%{y:.3g}<extra>${curve.name}</extra>` },
      ];
    });
    const domains = narrow
      ? { x: [0, 1], y: [0.56, 1], x2: [0, 1], y2: [0, 0.44] }
      : { x: [0, 0.475], y: [0, 1], x2: [0.545, 1], y2: [0, 1] };
    const zero = { zeroline: true };
    const ends = [x[0], x[x.length - 1]];
    return {
      traces,
      layout: {
        showlegend: true, hovermode: "x unified", margin: { l: 40, r: 8, t: 8, b: 34 },
        xaxis: { domain: domains.x, title: narrow ? "" : T.look.input, range: ends, ...zero },
        yaxis: { domain: domains.y, title: T.look.output, range: sensibleRange(curves.map((one) => one.output)), ...zero },
        xaxis2: { domain: domains.x2, anchor: "y2", title: T.look.input, range: ends, ...zero },
        yaxis2: { domain: domains.y2, anchor: "x2", title: T.look.gradient,
                  range: sensibleRange(curves.map((one) => one.gradient)), ...zero },
      },
      table: {
        columns: [T.look.input, ...curves.flatMap((one) => [`${one.name}: ${T.look.output}`, `${one.name}: ${T.look.gradient}`])],
        rows: x.map((value, i) => [value, ...curves.flatMap((one) => [one.output[i], one.gradient[i]])]),
      },
    };
  });
}

/**
 * @param {Chart} chart
 * @param {Response} response
 */
export function showResponse(chart, response) {
  showCurves(chart, response.x, response.curves.map((one) => ({
    name: T.look.batch(one.mean, one.deviation), output: one.output, gradient: one.gradient,
  })));
}
