/**
 * Try a layer: a formula as it is typed, with graph, curves, checks and properties; then enqueue it.
 * @module
 */
import { allSearches, get, post, request, url } from "../api.js";
import { fill, h } from "../dom.js";
import { icon } from "../icons.js";
import { drawGraph, graphLegend } from "../layer/drawing.js";
import { exportPanel } from "../layer/exports.js";
import { card, formulaParts, knownPill, propertyList } from "../layer/facts.js";
import { responseChart, showResponse } from "../layer/response.js";
import { go, params, setParams } from "../router.js";
import { T, WORDS } from "../strings.js";
import { ask, button, emptyState, loadingState, problemText, toast, toastProblem, word } from "../ui.js";

const L = T.layerPage;
const LOOK_AFTER = 180;
const CHECK_AFTER = 700;
const NAMED = ["x", "zero", "v0", "v1"];

/** @type {import("../router.js").Open} */
export function open(host) {
  document.title = `${L.title} · evosearch`;
  const page = new LayerPage(host);
  page.begin();
  return { leave: () => page.close(), change: () => page.follow() };
}

class LayerPage {
  /** @param {HTMLElement} host */
  constructor(host) {
    /** @type {AbortController | null} */
    this.abort = null;
    /** @type {any} */
    this.timer = null;
    /** @type {any} */
    this.report = null;
    this.asked = "";
    this.field = h("textarea", { class: "input formula layer-field", id: "formula", rows: "3", spellcheck: "false", autocomplete: "off",
      autocapitalize: "off", maxlength: "4000", placeholder: L.placeholder, "aria-describedby": "formula-told",
      value: params().get("formula") ?? "", oninput: () => this.typed() });
    this.told = h("div", { id: "formula-told", class: "formula-told", role: "status" });
    this.catalog = h("select", { class: "input", id: "catalog", onchange: () => {
      if (!this.catalog.value) return;
      this.set(this.catalog.value);
      this.catalog.value = "";
    } }, h("option", { value: "" }, L.catalog));
    this.preset = h("select", { class: "input", id: "preset", onchange: () => this.check() });
    this.enqueue = button(L.enqueue, () => this.send(), { icon: "plus", kind: "primary", id: "enqueue", disabled: true });
    this.palette = h("div", { class: "palette" });
    this.result = h("div", { class: "stack" });
    this.checks = card(L.checks, { tip: L.checksTip, head: h("label", { class: "inline-field" },
      h("span", { class: "small quiet" }, L.preset), this.preset) });
    this.formula = card(T.look.formula);
    this.graph = card(T.look.graph, { tip: T.look.graphTip });
    this.facts = card(T.look.properties, { tip: T.look.propertiesTip });
    this.exports = card(T.candidatePage.exports, { className: "export-card" });
    this.response = responseChart("response");
    this.blank = h("div", { class: "card" }, emptyState(L.empty, L.emptyHelp, "search"));
    fill(host, h("div", { class: "page layer-page" },
      h("div", { class: "page-head" }, h("h1", {}, L.title)),
      h("div", { class: "layer-columns" },
        h("div", { class: "stack" },
          h("section", { class: "card layer-input", "aria-label": L.label }, h("div", { class: "card-body" },
            h("div", { class: "field" }, h("label", { for: "formula" }, L.label), this.field), this.told,
            h("div", { class: "actions" }, h("label", { class: "visually-hidden", for: "catalog" }, L.catalog), this.catalog,
              h("span", { class: "spacer" }), this.enqueue),
            h("p", { class: "quiet small" }, L.help), this.palette)),
          this.checks.element),
        this.result)));
    fill(this.result, this.blank);
  }

  close() {
    clearTimeout(this.timer);
    this.abort?.abort();
    this.response.close();
  }

  async begin() {
    this.checks.set(emptyState(L.empty));
    this.typed(0);
    this.field.focus();
    const [catalog, primitives, presets] = await Promise.allSettled([get("/catalog"), get("/primitives"), get("/presets")]);
    if (catalog.status === "fulfilled") {
      for (const one of catalog.value) this.catalog.append(h("option", { value: one.formula }, one.title));
    }
    if (presets.status === "fulfilled") {
      fill(this.preset, presets.value.presets.map((/** @type {any} */ one) =>
        h("option", { value: one.name, selected: one.name === "quickstart" }, one.name)));
    }
    if (primitives.status === "fulfilled") this.drawPalette(primitives.value);
  }

  /** @param {{name: string, over: string | null, arity: number}[]} primitives */
  drawPalette(primitives) {
    const signs = { add: " + ", mul: " * ", div: " / " };
    const chip = (/** @type {string} */ name, /** @type {string} */ text, /** @type {number} */ back) =>
      h("button", { type: "button", class: "chip", "aria-label": L.insert(name), onclick: () => this.insert(text, back) }, name);
    const of = (/** @type {{name: string, over: string | null, arity: number}} */ one) => {
      const name = one.over ? `${one.name}_${one.over}` : one.name;
      const sign = signs[/** @type {"add"} */ (name)];
      if (sign) return chip(sign.trim(), sign, 0);
      return chip(name, one.arity === 2 ? `${name}(, )` : `${name}()`, one.arity === 2 ? 3 : 1);
    };
    const rows = /** @type {[string, any[]][]} */ ([
      [L.named, NAMED.map((name) => chip(name, name, 0))],
      [L.elementwise, primitives.filter((one) => !one.over).map(of)],
      [L.moments, primitives.filter((one) => one.over).map(of)],
    ]);
    fill(this.palette, rows.map(([title, chips]) => h("div", { class: "palette-row" }, h("h3", {}, title), h("div", { class: "chips" }, chips))));
  }

  /** @param {string} text @param {number} back so many characters before its end the caret goes */
  insert(text, back) {
    const { selectionStart: start, selectionEnd: end, value } = this.field;
    const chosen = back === 1 ? value.slice(start, end) : "";
    const put = chosen ? `${text.slice(0, -1)}${chosen})` : text;
    this.field.value = value.slice(0, start) + put + value.slice(end);
    const caret = start + put.length - (chosen ? 0 : back);
    this.field.focus();
    this.field.setSelectionRange(caret, caret);
    this.typed();
  }

  /** @param {string} formula */
  set(formula) {
    this.field.value = formula;
    this.typed(0);
  }

  /** The address was changed by going back or forth. */
  follow() {
    const formula = params().get("formula") ?? "";
    if (formula !== this.field.value.trim()) this.set(formula);
  }

  typed(after = LOOK_AFTER) {
    clearTimeout(this.timer);
    this.abort?.abort();
    const text = this.field.value.trim();
    this.enqueue.disabled = text !== this.asked || !this.report;  // never what stood here before
    if (!text) {
      this.asked = "";
      this.report = null;
      this.field.removeAttribute("aria-invalid");
      this.told.replaceChildren();
      this.checks.set(emptyState(L.empty));
      fill(this.result, this.blank);
      setParams({ formula: null });
      return;
    }
    this.timer = setTimeout(() => this.look(text), after);
  }

  /** What needs nothing to be run but a small probe: at once. */
  async look(/** @type {string} */ text) {
    this.abort = new AbortController();
    this.asked = text;
    this.report = null;
    try {
      const answer = await request("POST", url("/layers/check"), { formula: text, checks: false }, { signal: this.abort.signal });
      this.report = await answer.json();
    } catch (err) {
      this.refused(err, text);
      return;
    }
    setParams({ formula: text });
    this.field.removeAttribute("aria-invalid");
    this.told.replaceChildren();
    this.enqueue.disabled = false;
    this.draw();
    this.checks.set(loadingState(4));
    this.timer = setTimeout(() => this.check(), CHECK_AFTER);
    this.curves(text);
  }

  /** Computed in a process of its own, so it may come later than the rest. */
  async curves(/** @type {string} */ text) {
    try {
      const answer = await request("POST", url("/layers/check"), { formula: text, checks: false, curves: true },
        { signal: this.abort?.signal });
      const { curves } = await answer.json();
      if (text === this.asked) showResponse(this.response, curves);
    } catch (err) {
      if (!(err instanceof DOMException)) this.response.failed(err, () => this.curves(text), { drop: true });
    }
  }

  /** The checks of a search, which take a moment. */
  async check() {
    if (!this.report || !this.asked) return;
    const mine = this.asked;
    this.checks.set(loadingState(4));
    try {
      const preset = this.preset.value || "quickstart";
      const answer = await request("POST", url("/layers/check"), { formula: mine, preset }, { signal: this.abort?.signal });
      const { checks } = await answer.json();
      if (mine !== this.asked) return;
      const bad = checks.some((/** @type {any} */ one) => !one.passes);
      this.checks.set(
        h("p", { class: ["check-verdict", bad ? "bad" : "good"] }, icon(bad ? "cross" : "check"), h("strong", {}, bad ? L.wouldReject : L.wouldPass)),
        h("ul", { class: "check-list" }, checks.map((/** @type {any} */ one) => h("li", { class: one.passes ? "good" : "bad" },
          icon(one.passes ? "check" : "cross"), h("div", {}, h("strong", {}, WORDS[one.check] ? word(one.check) : one.check), h("div", { class: "small quiet" }, one.verdict))))));
    } catch (err) {
      if (err instanceof DOMException && err.name === "AbortError") return;
      this.checks.set(emptyState(problemText(err)));
    }
  }

  /** @param {any} err @param {string} text */
  refused(err, text) {
    if (err instanceof DOMException && err.name === "AbortError") return;
    this.report = null;
    this.enqueue.disabled = true;
    this.field.setAttribute("aria-invalid", "true");
    this.checks.set(emptyState(L.empty));
    const place = typeof err.position === "number" ? Math.min(err.position, text.length) : null;
    fill(this.told,
      place !== null && h("pre", { class: "formula", "aria-hidden": "true" }, text.slice(0, place),
        h("mark", {}, text.slice(place, place + 1) || " "), text.slice(place + 1)),
      h("p", { class: "field-error" }, place === null ? "" : `${L.at(place + 1)}: `, err.message ?? problemText(err)));
  }

  draw() {
    const { report } = this;
    this.formula.set(formulaParts(report), report.known_as && h("p", { class: "known-line" }, knownPill(report.known_as)));
    this.graph.set(drawGraph(report.picture, "graph-layer"), graphLegend());
    this.facts.set(propertyList(report.behaviour));
    this.exports.set(exportPanel(report.usage, (format) =>
      request("POST", url("/layers/export"), { graph: report.graph, format })));
    if (!this.formula.element.isConnected) {
      fill(this.result, this.formula.element, this.response.element,
        h("div", { class: "layer-pair" }, this.graph.element, this.facts.element), this.exports.element);
    }
  }

  async send() {
    const formula = this.asked;
    /** @type {any[]} */
    let searches = [];
    try {
      searches = await allSearches({ status: ["running", "paused"] });
    } catch (err) {
      toastProblem(err);
      return;
    }
    if (!searches.length) {
      toast(L.noSearch, { bad: true });
      return;
    }
    const into = h("select", { class: "input", id: "into" }, searches.map((one) => h("option", { value: one.id }, one.title)));
    const note = h("input", { class: "input", id: "note", maxlength: "1000" });
    const sure = await ask({ title: L.enqueueTitle, ok: L.enqueue, body: [
      h("div", { class: "field" }, h("label", { for: "into" }, L.into), into),
      h("div", { class: "field" }, h("label", { for: "note" }, L.note), note)] });
    if (!sure) return;
    try {
      await post(`/searches/${into.value}/enqueue`, { formula, note: note.value });
      const title = searches.find((one) => one.id === into.value)?.title ?? into.value;
      toast(L.enqueued(title), { action: { text: L.open, run: () => go(`search/${into.value}`) } });
    } catch (err) {
      toastProblem(err);
    }
  }
}
