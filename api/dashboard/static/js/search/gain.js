/**
 * Gain against cost, and the Pareto front of any two quantities: what beats the baseline, at what
 * price. Axes, baselines and intervals are plotly's; the points are WebGL's.
 * @module
 */
import { Field } from "../brush.js";
import { h } from "../dom.js";
import { marginText, number, points as asPoints, score } from "../format.js";
import { furtherObjectives, gainFactor, gainUnit, scoreTitle, shortTitle, valueFactor } from "../measure.js";
import { Chart } from "../plot.js";
import { PointLayer } from "../points.js";
import { params, setParams } from "../router.js";
import { T } from "../strings.js";
import { colour } from "../theme.js";
import { segments } from "../ui.js";
import { box, setBox } from "./filter.js";
import { Parallel } from "./parallel.js";

/** @typedef {{birth: number, x: number, y: number, margin: number | null, seeds: number, confirmed: boolean, front: boolean, faded: boolean}} Spot */

const MOST_BARS = 250;
const COSTS = ["step_time", "live_nodes", "memory"];

/** @param {string} name */
const isGain = (name) => name === "gain" || name.startsWith("gain.");

/**
 * What a value of an axis is multiplied by for its ticks: gains in points or the objective's unit,
 * scores as values in theirs.
 * @param {string} name
 */
export function tickFactor(name) {
  if (isGain(name)) return gainFactor();
  if (name.startsWith("score.")) return valueFactor(name.slice(6));
  return name === "mean_score" ? valueFactor() : 1;
}

/**
 * @param {string} name
 * @param {number} value
 */
export function shown(name, value) {
  return tickFactor(name) * value;
}

/**
 * @param {string} name
 * @param {"axes" | "short"} [form]
 * @returns {string}
 */
export function axisTitle(name, form = "axes") {
  if (name.startsWith("score.")) return form === "short" ? shortTitle(name.slice(6)) : scoreTitle(name.slice(6));
  if (name.startsWith("gain.")) return T.gain.gainOn(name.slice(5), gainUnit());
  if (form === "axes" && name === "gain") return T.gain.gainAxis(gainUnit());
  if (form === "axes" && name === "mean_score") return scoreTitle();
  return T.gain[form][/** @type {"gain"} */ (name)] ?? name;
}

export class GainChart {
  /**
   * @param {import("./model.js").Model} model
   * @param {{openDrawer: (birth: number) => void, openPage: (birth: number) => void,
   *          addToTray: (birth: number) => void}} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.kind = params().get("chart") ?? "cost";
    this.pickers = h("span", { class: "pickers" });
    const kinds = segments(Object.entries(T.gain.kinds).map(([value, text]) => ({ value, text })), this.kind,
      (value) => this.choose(value), T.gain.kindLabel);
    this.chart = new Chart({ title: T.gain.title, name: "gain", tip: T.gain.tip, height: "var(--chart-tall)",
      controls: [this.pickers, kinds], alt: () => this.alt(), exact: () => this.exact() });
    this.element = this.chart.element;
    this.wrap = h("div", { class: "plot-wrap" });
    this.chart.plot.replaceWith(this.wrap);
    this.wrap.append(this.chart.plot);
    this.chart.hold(this.wrap);
    this.layer = new PointLayer(this.wrap);
    /** What lies over the chart, point by point. @type {Spot[]} */
    this.spots = [];
    this.field = new Field(this.wrap, {
      label: (index) => this.label(index),
      click: (index, event) => (event.shiftKey || ("key" in event && event.key === "c") ? page.addToTray(this.birth(index)) : page.openDrawer(this.birth(index))),
      open: (index) => page.openPage(this.birth(index)),
      brush: (corners) => this.brushed(corners), corner: T.gain.corner,
    }, T.gain.keys);
    this.chart.onDrawn.push(() => this.overlay());
    this.parallel = new Parallel(model, this.chart, () => this.kind === "parallel");
    model.on("inside", () => this.filtered());
    this.sizes = new ResizeObserver(() => requestAnimationFrame(() => this.overlay()));
    this.sizes.observe(this.wrap);
    model.on("scatter", () => this.draw());
    model.on("since", () => {
      if (this.kind !== "parallel") this.draw({ now: true });
    });
    this.axes();
    this.drawPickers();
  }

  close() {
    this.chart.close();
    this.field.close();
    this.sizes.disconnect();
  }

  /** Axes as the URL and the kind of chart have them. */
  axes() {
    const chosen = params();
    const anchors = this.model.data.search?.anchors ?? [];
    const x = chosen.get("x");
    const y = chosen.get("y");
    if (this.kind === "pareto") {
      this.model.axes = { x: x ?? (anchors[0] ? `score.${anchors[0]}` : "step_time"),
                          y: y ?? (anchors[1] ? `score.${anchors[1]}` : "gain") };
    } else this.model.axes = { x: x && COSTS.includes(x) ? x : "step_time", y: "gain" };
  }

  /** @param {string} kind */
  choose(kind) {
    this.kind = kind;
    setParams({ chart: kind === "cost" ? null : kind, x: null, y: null });
    this.axes();
    this.drawPickers();
    this.ask();
  }

  /** The chart's data for other axes; what is brushed stays, whatever the axes were. */
  ask() {
    this.model.data.scatter = this.model.data.inside = null;
    this.model.load("scatter");
    this.model.load("inside");
  }

  /** What is in the filter has come: points beside it fade, and so does what is no point. */
  filtered() {
    if (this.kind === "parallel") this.draw({ now: true });
    else if (this.model.data.scatter?.rest) this.chart.show(() => this.figure(false), { now: true });
    else this.overlay();
  }

  /** The filter's answer, where it is of the chart's own axes. */
  inside() {
    const { inside, scatter } = this.model.data;
    return inside && scatter && inside.x_name === scatter.x_name && inside.y_name === scatter.y_name ? inside : null;
  }

  drawPickers() {
    const anchors = this.model.data.search?.anchors ?? [];
    const any = ["gain", ...[...anchors, ...furtherObjectives()].map((/** @type {string} */ one) => `score.${one}`), ...COSTS];
    /** @param {"x" | "y"} key @param {string[]} names */
    const pick = (key, names) => h("select", { class: "input pick", "aria-label": key === "x" ? T.gain.xLabel : T.gain.yLabel,
      onchange: (/** @type {any} */ event) => {
        setParams({ [key]: event.target.value });
        this.axes();
        this.ask();
      } }, names.map((one) => h("option", { value: one, selected: this.model.axes[key] === one }, axisTitle(one, "short"))));
    const boxes = this.kind === "cost" ? [pick("x", COSTS)] : this.kind === "pareto" ? [pick("x", any), pick("y", any)] : [];
    this.pickers.replaceChildren(...boxes);
  }

  /** @param {number} index */
  birth(index) {
    return this.spots[index].birth;
  }

  /** @param {number} index */
  label(index) {
    const found = this.model.data.scatter;
    const spot = this.spots[index];
    const text = (/** @type {string} */ name, /** @type {number} */ value) =>
      `${axisTitle(name, "short")} ${isGain(name) ? asPoints(value) : name.startsWith("score") || name === "mean_score" ? score(value, name.slice(6)) : number(value, name === "live_nodes" ? 0 : 2)}`;
    const seeds = spot.confirmed ? `${T.verdict.confirmed}, ${T.verdict.seeds(spot.seeds)}` : T.verdict.provisional;
    const { margin } = spot;
    return [`${T.verdict.candidate} ${spot.birth}${spot.birth === found.leader ? `, ${T.gain.legend.leader}` : ""}`,
      `${text(found.y_name, spot.y)}${margin === null ? "" : ` ± ${isGain(found.y_name) ? marginText(margin) : number(margin, 2)}`}`,
      text(found.x_name, spot.x), seeds, spot.front ? T.gain.legend.front : null].filter(Boolean).join("\n");
  }

  alt() {
    const found = this.model.data.scatter;
    return T.gain.alt(found.total, axisTitle(found.x_name), axisTitle(found.y_name));
  }

  /** @param {[import("../brush.js").Place, import("../brush.js").Place] | null} corners */
  brushed(corners) {
    const found = this.model.data.scatter;
    if (!corners || !found) {
      setBox(null);
      return;
    }
    const x = (/** @type {number} */ value) => (found.x_log ? 10 ** value : value / tickFactor(found.x_name));
    const y = (/** @type {number} */ value) => value / tickFactor(found.y_name);
    // A score of which less is better is drawn with its sign turned.
    const ends = (/** @type {number} */ a, /** @type {number} */ b) => /** @type {[number, number]} */ ([Math.min(a, b), Math.max(a, b)]);
    setBox({ xName: found.x_name, yName: found.y_name, x: ends(x(corners[0].x), x(corners[1].x)), y: ends(y(corners[0].y), y(corners[1].y)) });
  }

  /** @param {{now?: boolean}} [options] */
  draw(options) {
    const { scatter } = this.model.data;
    const shownKind = this.kind === "parallel";
    this.layer.canvas.hidden = this.field.element.hidden = shownKind || !scatter?.total;
    this.chart.title.textContent = { cost: T.gain.title, pareto: T.gain.paretoTitle, parallel: T.gain.parallelTitle }[this.kind] ?? T.gain.title;
    if (!scatter) {
      if (this.model.errors.scatter) this.chart.failed(this.model.errors.scatter, () => this.model.load("scatter"));
      return;
    }
    if (!scatter.total) {
      this.chart.empty(T.gain.none, T.gain.noneHelp);
      return;
    }
    if (!shownKind) this.chart.note.textContent = T.gain.note(scatter.shown, scatter.total);
    if (shownKind) this.parallel.show();
    else this.chart.show(() => this.figure(false), options);
  }

  exact() {
    return this.kind === "parallel" ? this.parallel.figure() : this.figure(true);
  }

  /**
   * @param {boolean} whole with the points as plotly's own, for a picture that stands alone
   * @returns {import("../plot.js").Figure}
   */
  figure(whole) {
    const found = this.model.data.scatter;
    const xs = found.x.map((/** @type {number} */ one) => shown(found.x_name, one));
    const ys = found.y.map((/** @type {number} */ one) => shown(found.y_name, one));
    const traces = [];
    const inside = this.inside();
    if (found.rest) traces.push(restTrace(found, inside ? 0.3 : 1));
    if (inside?.rest) traces.push(restTrace(inside, 1));
    const intervals = this.kind === "pareto" ? null : bars(found, xs, ys);
    traces.push(intervals ?? stairs(found));
    if (whole) traces.push(...pointTraces(found, xs, ys));
    traces.push(baselines(found), ...this.special(found, xs, ys));
    return { traces, layout: layout(found, xs, [...ys, ...(intervals ? ends(intervals) : [])]),
      table: { columns: ["candidate", found.x_name, found.y_name, "margin", "seeds", "on_front"],
               rows: found.births.map((/** @type {number} */ birth, /** @type {number} */ i) =>
                 [birth, found.x[i], found.y[i], found.margin[i], found.seeds[i], found.on_front[i]]) } };
  }

  /**
   * The leader, and those that led at the last visit.
   * @param {any} found
   * @param {number[]} xs
   * @param {number[]} ys
   */
  special(found, xs, ys) {
    const mark = (/** @type {number[]} */ births, /** @type {any} */ style, /** @type {string} */ name) => {
      const at = births.map((birth) => found.births.indexOf(birth)).filter((place) => place >= 0);
      return at.length ? { type: "scatter", mode: "markers", x: at.map((place) => xs[place]), y: at.map((place) => ys[place]),
                           customdata: at.map((place) => found.births[place]), name, hoverinfo: "skip", marker: style } : null;
    };
    /** @type {number[]} */
    const before = this.model.data.since?.leaders_before ?? [];
    return [
      mark(before.filter((birth) => birth !== found.leader), { symbol: "star-open", size: 15, color: colour("c4"), opacity: 0.6 }, T.gain.legend.before),
      mark(found.leader === null ? [] : [found.leader], { symbol: "star", size: 16, color: colour("c2"), line: { width: 1.2, color: colour("surface") } }, T.gain.legend.leader),
    ].filter(Boolean);
  }

  /** Places what lies over the chart where plotly put its field. */
  overlay() {
    const found = this.model.data.scatter;
    const drawn = /** @type {any} */ (this.chart.plot)._fullLayout;
    if (!found?.total || !drawn?.xaxis || this.kind === "parallel") return;
    const { xaxis, yaxis } = drawn;
    const frame = { left: xaxis._offset, top: yaxis._offset, width: xaxis._length, height: yaxis._length,
                    x: xaxis.range.map(Number), y: yaxis.range.map(Number) };
    this.spots = gather(found, this.inside());
    const places = this.spots.map((one) => {
      const x = shown(found.x_name, one.x);
      return { x: found.x_log ? Math.log10(x) : x, y: shown(found.y_name, one.y), hollow: !one.confirmed, strong: one.front, faded: one.faded };
    });
    this.layer.draw(places, frame);
    this.field.place(frame, places);
    const wanted = box();
    const log = (/** @type {number} */ value) => (found.x_log ? Math.log10(value) : shown(found.x_name, value));
    this.field.showBox(!wanted || wanted.xName !== found.x_name || wanted.yName !== found.y_name ? null : [
      { x: log(wanted.x[0]), y: shown(found.y_name, wanted.y[0]) }, { x: log(wanted.x[1]), y: shown(found.y_name, wanted.y[1]) }]);
  }
}

/**
 * The chart's points, and those of the filter for which it has no room; what is not in it fades.
 * @param {any} found
 * @param {any} inside answer for the filter; null without one
 * @returns {Spot[]}
 */
function gather(found, inside) {
  const within = inside && new Set(inside.births);
  const spots = (/** @type {any} */ from, /** @type {(birth: number) => boolean} */ wanted) => from.births.flatMap(
    (/** @type {number} */ birth, /** @type {number} */ i) => (wanted(birth) ? [{ birth, x: from.x[i], y: from.y[i], margin: from.margin[i],
      seeds: from.seeds[i], confirmed: from.confirmed[i], front: from.on_front[i], faded: Boolean(within) && !within.has(birth) }] : []));
  const own = new Set(found.births);
  return [...spots(found, () => true), ...(inside ? spots(inside, (birth) => !own.has(birth)) : [])];
}

/**
 * @param {any} found
 * @param {number} strength
 */
function restTrace(found, strength) {
  const centres = (/** @type {number[]} */ edges, /** @type {string} */ name) => edges.map((one) => shown(name, one));
  const counts = found.rest.counts;
  const z = found.rest.y_edges.slice(1).map((/** @type {number} */ _, /** @type {number} */ j) =>
    counts.map((/** @type {number[]} */ column) => (column[j] ? Math.log10(1 + column[j]) : null)));
  const tone = colour("c0");
  return { type: "heatmap", opacity: strength, x: centres(found.rest.x_edges, found.x_name), y: centres(found.rest.y_edges, found.y_name), z,
           showscale: false, hoverinfo: "skip", name: T.gain.rest, colorscale: [[0, `${tone}22`], [1, `${tone}cc`]] };
}

/**
 * Intervals of the confirmed ones, the highest where there are many.
 * @param {any} found
 * @param {number[]} xs
 * @param {number[]} ys
 */
function bars(found, xs, ys) {
  const wanted = found.births.map((/** @type {number} */ _, /** @type {number} */ i) => i)
    .filter((/** @type {number} */ i) => found.confirmed[i] && found.margin[i] !== null)
    .sort((/** @type {number} */ a, /** @type {number} */ b) => ys[b] - ys[a]).slice(0, MOST_BARS);
  return { type: "scatter", mode: "markers", x: wanted.map((/** @type {number} */ i) => xs[i]), y: wanted.map((/** @type {number} */ i) => ys[i]),
           hoverinfo: "skip", name: T.gain.legend.confirmed, marker: { size: 1, color: colour("ink-3") },
           error_y: { type: "data", array: wanted.map((/** @type {number} */ i) => gainFactor() * found.margin[i]), thickness: 1, width: 0, color: `${colour("ink-3")}99` } };
}

/**
 * Where intervals end, so that all of them are seen.
 * @param {{y: number[], error_y: {array: number[]}}} intervals
 */
function ends(intervals) {
  return intervals.y.flatMap((y, i) => [y - intervals.error_y.array[i], y + intervals.error_y.array[i]]);
}

/**
 * The front of the two quantities as steps, as the service found it among all.
 * @param {any} found
 */
function stairs(found) {
  const places = new Map(found.births.map((/** @type {number} */ birth, /** @type {number} */ i) => [birth, i]));
  const front = found.stairs.map((/** @type {number} */ birth) => places.get(birth)).filter((/** @type {any} */ one) => one !== undefined);
  return { type: "scatter", mode: "lines", x: front.map((/** @type {number} */ i) => shown(found.x_name, found.x[i])),
           y: front.map((/** @type {number} */ i) => shown(found.y_name, found.y[i])), name: T.gain.legend.front,
           hoverinfo: "skip", line: { shape: "hv", color: colour("c1"), width: 1.6 } };
}

/** @param {any} found */
function baselines(found) {
  const known = found.baselines.filter((/** @type {any} */ one) => one.x !== null && one.y !== null);
  return { type: "scatter", mode: "markers+text", x: known.map((/** @type {any} */ one) => shown(found.x_name, one.x)),
           y: known.map((/** @type {any} */ one) => shown(found.y_name, one.y)), text: known.map((/** @type {any} */ one) => one.name),
           textposition: labelSides(known, found), textfont: { size: 10.5, color: colour("ink-2") }, hoverinfo: "skip", cliponaxis: false,
           name: T.gain.legend.baseline, marker: { symbol: "diamond", size: 9, color: colour("ink"), line: { width: 1, color: colour("surface") } } };
}

/**
 * Names of baselines that stand close together go to different sides.
 * @param {any[]} known
 * @param {any} found
 * @returns {string[]}
 */
function labelSides(known, found) {
  const sides = ["top center", "bottom center", "middle right", "middle left"];
  const spread = Math.max(...found.y) - Math.min(...found.y) || 1;
  /** @type {{x: number, y: number, side: number}[]} */
  const placed = [];
  return known.map((one) => {
    const x = found.x_log ? Math.log(one.x) * 3 : one.x;
    const near = placed.filter((other) => Math.abs(other.x - x) < 0.6 && Math.abs(other.y - one.y) < 0.09 * spread);
    const side = [0, 1, 2, 3].find((place) => !near.some((other) => other.side === place)) ?? 0;
    placed.push({ x, y: one.y, side });
    return sides[side];
  });
}

/**
 * @param {any} found
 * @param {number[]} xs
 * @param {number[]} ys
 */
function pointTraces(found, xs, ys) {
  return [false, true].flatMap((confirmed) => [false, true].map((front) => {
    const mine = xs.map((_, i) => i).filter((i) => found.confirmed[i] === confirmed && found.on_front[i] === front);
    return { type: "scatter", mode: "markers", x: mine.map((i) => xs[i]), y: mine.map((i) => ys[i]),
             name: `${confirmed ? T.gain.legend.confirmed : T.gain.legend.provisional}${front ? `, ${T.gain.legend.front}` : ""}`,
             marker: { symbol: confirmed ? "circle" : "circle-open", size: 6, color: colour(front ? "c1" : "c0") } };
  }));
}

/**
 * @param {any} found
 * @param {number[]} xs
 * @param {number[]} ys
 */
function layout(found, xs, ys) {
  const named = found.baselines.filter((/** @type {any} */ one) => one.x !== null && one.y !== null);
  const spread = (/** @type {number[]} */ values, /** @type {number[]} */ more, /** @type {boolean} */ log) => {
    const all = [...values, ...more].map((one) => (log ? Math.log10(one) : one)).filter(Number.isFinite);
    const low = Math.min(...all);
    const high = Math.max(...all);
    const pad = (high - low || 0.1) * 0.05;
    return [low - pad, high + pad];
  };
  const edges = (/** @type {"x" | "y"} */ key, /** @type {string} */ name) => [
    ...named.map((/** @type {any} */ one) => shown(name, one[key])),
    ...(found.rest ? [found.rest[`${key}_edges`][0], found.rest[`${key}_edges`].at(-1)].map((one) => shown(name, one)) : [])];
  const range = { x: spread(xs, edges("x", found.x_name), found.x_log), y: spread(ys, edges("y", found.y_name), false) };
  const log = found.x_log ? { type: "log", tickvals: ticks(range.x), ticktext: ticks(range.x).map((one) => `${one}×`) } : {};
  return {
    margin: { l: 46, r: 14, t: 16, b: 36 },
    xaxis: { title: axisTitle(found.x_name), range: range.x, fixedrange: true, ...log },
    yaxis: { title: axisTitle(found.y_name), range: range.y, fixedrange: true },
    shapes: isGain(found.y_name) ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0,
      line: { dash: "dash", width: 1.2, color: colour("ink-3") } }] : [],
  };
}

/** Round values on a logarithmic axis. @param {number[]} range of logarithms */
function ticks(range) {
  const all = [0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 20, 50, 100];
  const found = all.filter((one) => Math.log10(one) >= range[0] && Math.log10(one) <= range[1]);
  return found.length > 1 ? found : [0.8, 0.9, 1, 1.1, 1.2, 1.3];
}
