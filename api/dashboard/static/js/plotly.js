/**
 * plotly.js, loaded when a chart first needs it, and layouts in the page's colours.
 * @module
 */
import { ROOT } from "./api.js";
import { whenIdle } from "./dom.js";
import { T } from "./strings.js";
import { colour } from "./theme.js";

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
