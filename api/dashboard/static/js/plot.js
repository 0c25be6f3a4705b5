/**
 * Charts: a card around plotly.js with the page's colours, kept still under the pointer, and each
 * to be had as PNG, SVG and CSV. What is drawn comes from the caller as plain traces.
 * @module
 */
import { fill, h } from "./dom.js";
import { saveButton } from "./pictures.js";
import { plotly, themed } from "./plotly.js";
import { T } from "./strings.js";
import { colour, onTheme } from "./theme.js";
import { emptyState, errorState, problemText } from "./ui.js";

/** Milliseconds after the reader's last move before a chart may take time to draw. */
const CALM = 350;
let moved = 0;
for (const kind of ["wheel", "scroll", "touchmove", "keydown"]) {
  document.addEventListener(kind, () => {
    moved = performance.now();
  }, { capture: true, passive: true });
}
document.addEventListener("pointermove", (event) => {
  if (event.buttons) moved = performance.now();
}, { capture: true, passive: true });

/** Colours of series in order, with a shape and a dash each, so that colour never stands alone. */
export const SERIES = [
  { colour: "c1", symbol: "circle", dash: "solid" },
  { colour: "c2", symbol: "square", dash: "dash" },
  { colour: "c3", symbol: "triangle-up", dash: "dot" },
  { colour: "c4", symbol: "diamond", dash: "dashdot" },
  { colour: "c5", symbol: "triangle-down", dash: "longdash" },
  { colour: "c6", symbol: "cross", dash: "longdashdot" },
];

/** @param {number} place */
export function series(place) {
  const one = SERIES[place % SERIES.length];
  return { ...one, colour: colour(one.colour) };
}

/**
 * @typedef {{traces: any[], layout: Record<string, any>, table?: {columns: string[], rows: any[][]}}} Figure
 * @typedef {{title: string, name: string, tip?: string, controls?: any, height?: string,
 *            note?: any, alt: () => string, exact?: () => Figure}} Options
 */

export class Chart {
  /** @param {Options} options */
  constructor(options) {
    this.options = options;
    this.plot = h("div", { class: "plot", role: "img", tabindex: "0", "aria-label": options.title });
    this.note = h("div", { class: "chart-note small quiet" }, options.note);
    this.told = h("p", { class: "chart-told small warn", role: "status", hidden: true });
    this.title = h("h2", options.tip ? { data: { tip: options.tip }, tabindex: "0" } : {}, options.title);
    const more = saveButton({ name: options.name, drawn: () => this._make !== null, size: () => [this.plot.clientWidth, this.plot.clientHeight],
      figure: () => (options.exact ?? this._make)?.() ?? { traces: [], layout: {} }, table: () => this.figure().table ?? tableOf(this.figure().traces) });
    this.head = h("div", { class: "card-head" }, this.title, h("div", { class: "spacer" }),
      options.controls, more);
    this.element = h("section", { class: "card chart", "aria-label": options.title },
      this.head, h("div", { class: "card-body" }, this.plot, this.told, this.note));
    if (options.height) this.plot.style.height = options.height;
    /** @type {(() => Figure) | null} */
    this._make = null;
    this._drawn = false;
    this._drawing = false;
    this._again = false;
    this._hovered = false;
    this._behind = false;
    this._closed = false;
    /** @type {((plot: any) => void)[]} */
    this.onDrawn = [];
    this._unlisten = onTheme(() => this._draw());
    this.hold(this.plot);
    this._sizes = new ResizeObserver(() => {
      if (this._drawn && this.plot.clientWidth) /** @type {any} */ (window).Plotly?.Plots.resize(this.plot);
    });
    this._sizes.observe(this.plot);
    this._inView = true;
    this._views = new IntersectionObserver(([one]) => {
      this._inView = one.isIntersecting;
      if (this._inView && this._behind && !this._hovered) this._draw();
    }, { rootMargin: "200px" });
    this._views.observe(this.element);
    /** @type {any} */
    this._later = null;
  }

  /**
   * While the pointer or the focus is in the element nothing of the chart moves.
   * @param {HTMLElement} element
   */
  hold(element) {
    const held = (/** @type {boolean} */ now) => () => {
      this._hovered = now;
      if (!now && this._behind) this._draw();
    };
    element.addEventListener("pointerenter", held(true));
    element.addEventListener("pointerleave", held(false));
    element.addEventListener("focusin", (event) => {
      if (/** @type {Element} */ (event.target).matches(":focus-visible")) this._hovered = true;
    });
    element.addEventListener("focusout", held(false));
  }

  /**
   * Shows what `make` returns; it is called again when the theme changes. What comes while the
   * pointer is over the chart, or the chart out of sight, waits; while the reader scrolls or drags,
   * too, for a frame that takes long would be felt.
   * @param {() => Figure} make
   * @param {{now?: boolean}} [options] now: the reader asked for it
   */
  show(make, options = {}) {
    this._make = make;
    this.told.hidden = true;
    if (this._drawn && !options.now) {
      this._behind = true;
      if (!this._hovered && this._inView) this._whenCalm();
      return;
    }
    this._draw();
  }

  _whenCalm() {
    clearTimeout(this._later);
    const wait = moved + CALM - performance.now();
    if (wait <= 0) this._draw();
    else {
      this._later = setTimeout(() => {
        if (this._behind && !this._hovered && this._inView) this._whenCalm();
      }, wait);
    }
  }

  /**
   * @param {string} title
   * @param {any} [body]
   */
  empty(title, body) {
    this._clear();
    fill(this.plot, emptyState(title, body));
  }

  /**
   * Says what went wrong: in place of the chart, or below what it still shows of before.
   * @param {unknown} err
   * @param {() => void} again
   * @param {{drop?: boolean}} [options] drop: what is shown is of something else, and goes
   */
  failed(err, again, options = {}) {
    if (this._drawn && !options.drop) {
      this.told.hidden = false;
      this.told.textContent = T.notNew(problemText(err));
      return;
    }
    this._clear();
    fill(this.plot, errorState(err, again));
  }

  close() {
    this._closed = true;
    this._unlisten();
    this._sizes.disconnect();
    this._views.disconnect();
    clearTimeout(this._later);
    this._clear();
  }

  _clear() {
    if (this._drawn) /** @type {any} */ (window).Plotly?.purge(this.plot);
    this._drawn = false;
    this._make = null;
    this.told.hidden = true;
  }

  /** Draws, one at a time: a second one that began before the first had ended would wipe it out. */
  async _draw() {
    this._behind = false;
    if (this._drawing) {
      this._again = true;
      return;
    }
    this._drawing = true;
    await this._drawNow();
    this._drawing = false;
    if (this._again) {
      this._again = false;
      this._draw();
    }
  }

  async _drawNow() {
    if (!this._make || this._closed) return;
    try {
      const Plotly = await plotly();
      if (!this._make || this._closed) return;
      const { traces, layout } = this._make();
      if (!this._drawn) this.plot.replaceChildren();
      await Plotly.react(this.plot, traces, themed(layout), { displayModeBar: false, responsive: false,
        doubleClick: "reset+autosize", scrollZoom: false, showTips: false });
      this._drawn = true;
      this.plot.setAttribute("aria-label", this.options.alt());
      for (const call of this.onDrawn) call(this.plot);
    } catch (err) {
      const make = this._make;
      this.failed(err, () => {
        this._make ??= make;
        this._draw();
      });
    }
  }

  /** What is shown, as it was made. @returns {Figure} */
  figure() {
    return this._make?.() ?? { traces: [], layout: {} };
  }
}

/**
 * What the traces show, as rows.
 * @param {any[]} traces
 */
function tableOf(traces) {
  const rows = [];
  for (const trace of traces) {
    const length = Math.max(trace.x?.length ?? 0, trace.y?.length ?? 0);
    for (let i = 0; i < length; i++) rows.push([trace.name ?? "", trace.x?.[i], trace.y?.[i]]);
  }
  return { columns: ["series", "x", "y"], rows };
}
