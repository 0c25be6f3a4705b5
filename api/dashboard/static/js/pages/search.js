/**
 * The search page: header, verdict, charts, tabs, drawer; how they hang together.
 * @module
 */
import { Problem } from "../api.js";
import { fill, h } from "../dom.js";
import { hideLink, showLink } from "../live.js";
import { useObjectives } from "../measure.js";
import { go, href, params, setParams } from "../router.js";
import { Candidates } from "../search/candidates.js";
import { Drawer } from "../search/drawer.js";
import { box, ranges, setBox } from "../search/filter.js";
import { FunnelChart } from "../search/funnel.js";
import { GainChart, axisTitle, shown } from "../search/gain.js";
import { Header } from "../search/header.js";
import { Model } from "../search/model.js";
import { ProgressChart } from "../search/progress.js";
import { Tabs } from "../search/tabs.js";
import { ThroughputChart } from "../search/throughput.js";
import { Tray } from "../search/tray.js";
import { TwoClicks } from "../search/two_clicks.js";
import { VerdictCard } from "../search/verdict.js";
import { Visits } from "../search/visits.js";
import { T, WORDS } from "../strings.js";
import { button, emptyState, errorState, loadingState } from "../ui.js";

/** @type {import("../router.js").Open} */
export async function open(host, [ref], _params, signal) {
  fill(host, h("div", { class: "page" }, loadingState(8)));
  const model = new Model(ref);
  signal.addEventListener("abort", () => model.close());
  await model.load("search");
  if (signal.aborted) return {};
  if (!model.data.search) {
    const err = model.errors.search;
    const missing = err instanceof Problem && err.status === 404;
    fill(host, h("div", { class: "page" }, missing
      ? emptyState(T.search.notFound, h("a", { href: href("") }, T.toSearches), "search")
      : errorState(err, () => location.reload())));
    return {};
  }
  return new SearchPage(host, model);
}

class SearchPage {
  /**
   * @param {HTMLElement} host
   * @param {Model} model
   */
  constructor(host, model) {
    this.model = model;
    model.id = model.data.search.id;
    model.path = `/searches/${model.id}`;
    model.last = model.data.search.last_event;
    useObjectives(model.data.search.objectives);
    this.visits = new Visits(model.id, () => model.last, (before) => model.cameBack(before));
    model.lastVisit = this.visits.before?.event;
    model.visitedAt = this.visits.before?.at;
    this.clicks = new TwoClicks((birth) => this.openPage(birth));
    this.tray = new Tray(() => this.trayChanged());
    this.header = new Header(model);
    this.verdict = new VerdictCard(model, this);
    this.gain = new GainChart(model, this);
    this.progress = new ProgressChart(model);
    this.funnel = new FunnelChart(model, this);
    this.throughput = new ThroughputChart(model);
    this.drawer = new Drawer(model, this);
    /** @type {string | null} */
    this.brush = params().get("brush");
    model.ranges = ranges();
    this.filterBar = h("div", { class: "filter-bar no-print", hidden: true });
    this.tabs = new Tabs(model, this);
    fill(host, this.header.element, h("div", { class: "page search-page" },
      h("div", { class: "grid top-row" }, this.verdict.element, this.gain.element),
      h("div", { class: "grid charts-row" }, this.progress.element, this.funnel.element, this.throughput.element),
      this.filterBar, this.tabs.element), this.drawer.element, this.tray.element);
    this.keys = (/** @type {KeyboardEvent} */ event) => this.key(event);
    document.addEventListener("keydown", this.keys);
    model.onLink = (state, since) => showLink(state, since, () => model.feed?.reconnect());
    this.header.draw();
    for (const topic of /** @type {const} */ (["line", "scatter", "workers", "funnel", "progress", "throughput", "costs", "since", "inside"])) model.load(topic);
    this.progress.loadPinned().catch(() => {
      // The reference is an extra; without it the chart stands as it is.
    });
    model.listen();
    model.on("scatter", () => this.drawFilter());
    model.on("inside", () => this.drawFilter());
    this.change();
  }

  leave() {
    document.removeEventListener("keydown", this.keys);
    for (const part of [this.visits, this.clicks, this.header, this.gain, this.progress, this.funnel, this.throughput, this.tabs, this.drawer]) part.close();
    this.model.close();
    hideLink();
  }

  /** The URL has changed: drawer, filter and tab follow it. */
  change() {
    const chosen = params();
    const open = chosen.get("c");
    this.drawer.show(open === null ? null : Number(open));
    if (this.tabs.panel instanceof Candidates) this.tabs.panel.table.mark(open);
    this.tabs.update();
    const brush = chosen.get("brush");
    if (brush !== this.brush) {
      this.brush = brush;
      this.gain.overlay();
      this.model.narrow(ranges());
    }
    this.drawFilter();
  }

  drawFilter() {
    const wanted = box();
    const stage = params().get("stage");
    this.filterBar.hidden = !wanted && !stage;
    if (this.filterBar.hidden) return;
    const range = (/** @type {string} */ name, /** @type {[number, number]} */ pair) => {
      const ends = pair.map((one) => Number(shown(name, one).toPrecision(3))).sort((a, b) => a - b);
      return `${axisTitle(name, "short")} ${ends.join(" – ")}`;
    };
    fill(this.filterBar, h("strong", {}, T.search.filter),
      wanted && this.model.data.inside && h("span", { class: "quiet small", id: "filter-count" }, T.search.inFilter(this.model.data.inside.total)),
      wanted && h("span", { class: "pill accent" }, range(wanted.xName, wanted.x)), wanted && h("span", { class: "pill accent" }, range(wanted.yName, wanted.y)),
      stage && h("span", { class: "pill accent", ...(WORDS[stage] ? { tabindex: "0", data: { tip: WORDS[stage] } } : {}) }, T.table.reasons(stage)),
      button(T.search.clearFilter, () => this.clear(), { icon: "cross", kind: "plain" }));
  }

  clear() {
    setParams({ brush: null, stage: null, where: null, text: null, state: null });
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key !== "Escape" || document.querySelector("dialog[open], .menu")) return;
    if (/** @type {Element} */ (event.target).closest?.("input, textarea, select")) return;
    if (params().has("c")) this.openDrawer(null);
    else if (params().has("brush")) setBox(null);
    else this.clear();
  }

  /** @param {number | null} birth */
  openDrawer(birth) {
    if (birth !== null) this.clicks.first(birth);
    setParams({ c: birth === null ? null : String(birth) });
  }

  /** @param {number} birth */
  openPage(birth) {
    go(`search/${this.model.id}/candidate/${birth}`);
  }

  /** @param {number} birth */
  addToTray(birth) {
    const name = `${this.model.id}-${birth}`;
    if (!this.tray.has(name)) this.tray.toggle(name);
  }

  trayChanged() {
    if (this.tabs.panel instanceof Candidates) this.tabs.panel.table.refresh();
  }

  /**
   * @param {string} tab
   * @param {Record<string, string>} [extra]
   */
  showTab(tab, extra = {}) {
    setParams({ tab: tab === "candidates" ? null : tab, state: null, stage: null, text: null, where: null, after: null, ...extra });
    this.tabs.element.scrollIntoView({ behavior: "smooth", block: "start" });
  }

  /** @param {string} filter such as `state=evaluated`, of a bar of the funnel */
  filterTable(filter) {
    const wanted = new URLSearchParams(filter);
    const changes = Object.fromEntries(wanted);
    if (!filter) changes.state = "any";
    if (wanted.has("stage")) changes.state = "rejected";
    this.showTab("candidates", changes);
  }
}
