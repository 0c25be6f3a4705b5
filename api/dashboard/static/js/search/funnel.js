/**
 * The funnel: how far candidates came, at what cost, and what each check saved; a bar filters.
 * @module
 */
import { fill, h } from "../dom.js";
import { count, duration, number, percent } from "../format.js";
import { saveButton } from "../pictures.js";
import { Still } from "../still.js";
import { T, WORDS } from "../strings.js";
import { colour } from "../theme.js";
import { emptyState, errorState, loadingState } from "../ui.js";

export class FunnelChart {
  /**
   * @param {import("./model.js").Model} model
   * @param {{filterTable: (filter: string) => void}} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.body = h("div", { class: "card-body" }, loadingState(6));
    const more = saveButton({ name: "funnel", figure: () => this.figure(), table: () => this.table(), size: () => [720, 360],
      drawn: () => Boolean(this.model.data.funnel) });
    this.element = h("section", { class: "card chart", "aria-label": T.funnel.title },
      h("div", { class: "card-head" }, h("h2", { tabindex: "0", data: { tip: T.funnel.tip } }, T.funnel.title),
        h("div", { class: "spacer" }), more), this.body);
    const still = new Still(this.body);
    /** The ranges that the drawn bars were asked for. @type {string[]} */
    this.ranges = [];
    model.on("funnel", () => {
      const asked = this.ranges !== model.ranges || !this.body.querySelector(".funnel");
      this.ranges = model.ranges;
      still.run(() => this.draw(), asked);
    });
  }

  close() {}

  draw() {
    const found = this.model.data.funnel;
    if (!found) {
      if (this.model.errors.funnel) fill(this.body, errorState(this.model.errors.funnel, () => this.model.load("funnel")));
      return;
    }
    if (!found.bars.some((/** @type {any} */ one) => one.count)) {
      fill(this.body, emptyState(T.funnel.none));
      return;
    }
    const most = Math.log10(1 + Math.max(...found.bars.map((/** @type {any} */ one) => one.count)));
    const brushed = found.bars.some((/** @type {any} */ one) => one.inside !== null);
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset?.stage;
    fill(this.body, h("div", { class: "funnel", role: "list", "aria-label": T.funnel.alt },
      found.bars.map((/** @type {any} */ bar) => this.bar(bar, most, brushed))));
    if (focused) /** @type {HTMLElement | null} */ (this.body.querySelector(`[data-stage="${focused}"]`))?.focus();
  }

  /**
   * @param {any} bar
   * @param {number} most logarithm of the longest
   * @param {boolean} brushed
   */
  bar(bar, most, brushed) {
    const width = (/** @type {number} */ n) => `${(100 * Math.log10(1 + n)) / most}%`;
    const title = T.funnel.stages[/** @type {"signal"} */ (bar.stage)] ?? bar.stage;
    const part = brushed ? bar.inside : null;
    const rate = bar.false_rejection_rate;
    const tip = [bar.meaning, WORDS[bar.stage], bar.share !== null && `${percent(bar.share)} ${T.funnel.share}`,
      bar.worker_seconds > 0 && `${duration(bar.worker_seconds)} ${T.funnel.workerTime}`,
      rate && T.funnel.wrong(percent(rate.value, 0), percent(rate.low, 0), percent(rate.high, 0)),
      bar.filter ? null : T.funnel.counted].filter(Boolean).join("\n");
    const saved = [bar.saved_hours ? T.funnel.saved(duration(3600 * bar.saved_hours)) : null,
      rate ? T.funnel.wrongShort(percent(rate.value, 0), number(100 * rate.low), number(100 * rate.high)) : null].filter(Boolean);
    const inner = [
      h("span", { class: "funnel-name" }, title),
      h("span", { class: "funnel-middle" },
        h("span", { class: "funnel-track" },
          h("i", { class: ["funnel-bar", brushed && part === null && "dim"], style: { width: width(bar.count) } }),
          part ? h("i", { class: "funnel-bar part", style: { width: width(part) } }) : null),
        saved.length ? h("span", { class: "funnel-note" }, saved.join(", ")) : null),
      h("span", { class: "funnel-count" }, part === null ? count(bar.count) : `${count(part)} / ${count(bar.count)}`),
      h("span", { class: "funnel-more small quiet" }, bar.share === null ? "" : percent(bar.share, bar.share < 0.1 ? 1 : 0)),
      h("span", { class: "funnel-time small quiet" }, bar.worker_seconds > 0 ? duration(bar.worker_seconds) : ""),
    ];
    const props = { class: "funnel-row", role: "listitem", data: { tip } };
    return !bar.filter
      ? h("div", { ...props, tabindex: "0" }, inner)
      : h("div", { role: "listitem" }, h("button", { ...props, role: null, type: "button", data: { tip, stage: bar.stage },
          onclick: () => this.page.filterTable(anyState(bar.filter)) }, inner));
  }

  table() {
    return { columns: ["stage", "count", "share", "worker_seconds", "saved_hours", "false_rejection_rate", "rate_low", "rate_high", "in_filter"],
             rows: this.model.data.funnel.bars.map((/** @type {any} */ one) => {
               const rate = one.false_rejection_rate;
               return [one.stage, one.count, one.share, one.worker_seconds, one.saved_hours, rate?.value, rate?.low, rate?.high, one.inside];
             }) };
  }

  figure() {
    const bars = [...this.model.data.funnel.bars].reverse();
    return { traces: [{ type: "bar", orientation: "h", x: bars.map((one) => one.count), y: bars.map((one) => T.funnel.stages[/** @type {"signal"} */ (one.stage)] ?? one.stage),
                        text: bars.map((one) => count(one.count)), marker: { color: colour("c1") } }],
             layout: { margin: { l: 110, r: 30, t: 20, b: 40 }, xaxis: { type: "log" }, yaxis: {} } };
  }
}

/**
 * The query of a bar; without a state of its own it is of candidates in any.
 * @param {string} filter
 */
function anyState(filter) {
  const wanted = new URLSearchParams(filter);
  if (!wanted.has("state")) wanted.set("state", "any");
  return wanted.toString();
}
