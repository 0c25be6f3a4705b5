/**
 * Charts: a card around plotly.js with the page's colours, kept still under the pointer, and each
 * to be had as PNG, SVG and CSV. What is drawn comes from the caller as plain traces.
 * @module
 */
import { ROOT, saveBlob } from "./api.js";
import { fill, h, whenIdle } from "./dom.js";
import { T } from "./strings.js";
import { colour, onTheme } from "./theme.js";
import { button, emptyState, errorState, openMenu } from "./ui.js";

/** @type {Promise<any> | null} */
let loading = null;

/**
 * plotly.js, loaded once and after the first paint: it is larger than all else together.
 * @returns {Promise<any>}
 */
export function plotly() {
  loading ??= new Promise((done, fail) => {
    whenIdle(() => {
      const script = document.createElement("script");
      script.src = `${ROOT}assets/plotly-${document.documentElement.dataset.plotly}.min.js`;
      script.onload = () => done(/** @type {any} */ (window).Plotly);
      script.onerror = () => {
        loading = null;
        fail(new Error(T.noPlotly));
      };
      document.head.append(script);
    });
  });
  return loading;
}

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

/** @param {Record<string, any>} [more] */
function axis(more = {}) {
  return {
    gridcolor: colour("grid"), linecolor: colour("line-strong"), zeroline: false, automargin: true,
    tickfont: { color: colour("ink-3"), size: 11 }, ticks: "", nticks: 6,
    title: { font: { color: colour("ink-3"), size: 11 }, standoff: 6 }, ...more,
  };
}

/**
 * @param {Record<string, any>} layout
 * @returns {Record<string, any>}
 */
export function themed(layout) {
  /** @type {Record<string, any>} */
  const made = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    font: { family: getComputedStyle(document.documentElement).fontFamily, size: 11.5,
            color: colour("ink-2") },
    margin: { l: 46, r: 12, t: 8, b: 34 }, hovermode: "closest", showlegend: false,
    hoverlabel: { bgcolor: colour("ink"), bordercolor: colour("ink"), align: "left",
                  font: { color: colour("bg"), size: 11.5 } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
    modebar: { remove: [] }, ...layout,
  };
  for (const key of Object.keys(layout)) {
    if (!/^[xy]axis\d*$/.test(key)) continue;
    const { title, ...rest } = layout[key];
    const base = axis(rest);
    made[key] = { ...base, title: { ...base.title, ...(typeof title === "string" ? { text: title } : title) } };
  }
  return made;
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
    this.title = h("h2", options.tip ? { data: { tip: options.tip }, tabindex: "0" } : {}, options.title);
    const more = button("", () => this._menu(more), { icon: "dots", kind: "plain", title: T.chartMenu });
    more.setAttribute("aria-haspopup", "menu");
    this.head = h("div", { class: "card-head" }, this.title, h("div", { class: "spacer" }),
      options.controls, more);
    this.element = h("section", { class: "card chart", "aria-label": options.title },
      this.head, h("div", { class: "card-body" }, this.plot, this.note));
    if (options.height) this.plot.style.height = options.height;
    /** @type {(() => Figure) | null} */
    this._make = null;
    this._drawn = false;
    this._hovered = false;
    this._behind = false;
    this._closed = false;
    /** @type {((plot: any) => void)[]} */
    this.onDrawn = [];
    this._unlisten = onTheme(() => this._draw());
    this.plot.addEventListener("pointerenter", () => {
      this._hovered = true;
    });
    this.plot.addEventListener("pointerleave", () => {
      this._hovered = false;
      if (this._behind) this._draw();
    });
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
   * Shows what `make` returns; it is called again when the theme changes. What comes while the
   * pointer is over the chart, or the chart out of sight, waits; while the reader scrolls or drags,
   * too, for a frame that takes long would be felt.
   * @param {() => Figure} make
   * @param {{now?: boolean}} [options] now: the reader asked for it
   */
  show(make, options = {}) {
    this._make = make;
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
   * @param {unknown} err
   * @param {() => void} again
   */
  failed(err, again) {
    if (this._drawn) return;
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
  }

  async _draw() {
    if (!this._make || this._closed) return;
    this._behind = false;
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
      this.failed(err, () => this._draw());
    }
  }

  /** @param {HTMLElement} anchor */
  _menu(anchor) {
    if (!this._make) return;
    openMenu(anchor, [
      { text: T.asPng, icon: "download", run: () => this._picture("png") },
      { text: T.asSvg, icon: "download", run: () => this._picture("svg") },
      { text: T.asCsv, icon: "download", run: () => this._csv() },
    ]);
  }

  /** @param {"png" | "svg"} form */
  async _picture(form) {
    const Plotly = await plotly();
    const make = this.options.exact ?? this._make;
    if (!make) return;
    const { traces, layout } = make();
    const width = Math.max(640, this.plot.clientWidth);
    const height = Math.max(320, this.plot.clientHeight);
    const data = await Plotly.toImage({ data: traces, layout: {
      ...themed(layout), paper_bgcolor: colour("surface"), width, height, autosize: false,
    } }, { format: form, width, height, scale: form === "png" ? 2 : 1 });
    const text = form === "svg" ? decodeURIComponent(data.slice(data.indexOf(",") + 1)) : data;
    const blob = form === "svg" ? new Blob([text], { type: "image/svg+xml" }) : bytesOf(data);
    saveBlob(blob, `${this.options.name}.${form}`);
  }

  _csv() {
    if (!this._make) return;
    const table = this._make().table ?? tableOf(this._make().traces);
    const lines = [table.columns, ...table.rows].map((row) => row.map(cell).join(","));
    saveBlob(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }), `${this.options.name}.csv`);
  }
}

/** @param {string} data URL with base64 */
function bytesOf(data) {
  const raw = atob(data.slice(data.indexOf(",") + 1));
  const made = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) made[i] = raw.charCodeAt(i);
  return new Blob([made], { type: "image/png" });
}

/** @param {any} value */
function cell(value) {
  if (value === null || value === undefined) return "";
  const text = String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
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
