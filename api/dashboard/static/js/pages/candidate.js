/**
 * One candidate: what it is, what it does, how well, at what cost, where from, and how to take it home.
 * @module
 */
import { get, post, request, url } from "../api.js";
import { fill, h, throttled } from "../dom.js";
import { dotSource } from "../dots.js";
import { gainText, number } from "../format.js";
import { drawGraph, graphLegend } from "../layer/drawing.js";
import { exportPanel } from "../layer/exports.js";
import { card, formulaParts, knownPill, propertyList } from "../layer/facts.js";
import { familyParts } from "../layer/family.js";
import { gainDots, gainRows, tone } from "../layer/gain.js";
import { responseChart, showResponse } from "../layer/response.js";
import { checkTable, scoreTable } from "../layer/tables.js";
import { showTrainings, trainingChart } from "../layer/trainings.js";
import { hideLink, showLink } from "../live.js";
import { gainUnit, meaning, useObjectives } from "../measure.js";
import { saveButton } from "../pictures.js";
import { href } from "../router.js";
import { keep, recall } from "../storage.js";
import { EventFeed } from "../stream.js";
import { T, WORDS } from "../strings.js";
import { ask, button, emptyState, errorState, loadingState, loadInto, toast, toastProblem } from "../ui.js";

const P = T.candidatePage;
const TRAY = "evosearch.tray";

/** @type {import("../router.js").Open} */
export async function open(host, match, _params, signal) {
  const page = new CandidatePage(host, match[0], Number(match[1]));
  signal.addEventListener("abort", () => page.close());
  await page.load();
  return {};
}

class CandidatePage {
  /**
   * @param {HTMLElement} host
   * @param {string} search
   * @param {number} birth
   */
  constructor(host, search, birth) {
    this.host = host;
    this.search = search;
    this.birth = birth;
    this.path = `/searches/${search}/candidates/${birth}`;
    this.title = "";
    this.log = true;
    this.closed = false;
    /** Number of the last event that is on the page. */
    this.place = 0;
    this.lost = false;
    /** @type {EventFeed | null} */
    this.feed = null;
    this.refresh = throttled(() => this.update(), 1500);
    this.head = h("div", { class: "page-head candidate-head" });
    this.formula = card(T.look.formula, { span: "span-7" });
    this.gain = card(P.gain, { tip: P.gainTip(""), span: "span-5" });
    this.graph = card(T.look.graph, { tip: T.look.graphTip, span: "span-5" });
    this.facts = card(T.look.properties, { tip: T.look.propertiesTip });
    this.cost = card(P.cost, { tip: P.costTip });
    this.scores = card(P.scores, { tip: P.scoresTip, span: "span-7" });
    this.checks = card(P.checks, { tip: P.checksTip, span: "span-5" });
    this.family = card(P.family, { tip: P.familyTip, span: "span-6" });
    this.exports = card(P.exports, { span: "span-6", className: "export-card" });
    const name = `${search}-${birth}`;
    this.response = responseChart(`response-${name}`);
    this.training = trainingChart(`training-${name}`, (log) => {
      this.log = log;
      this.drawTrainings();
    });
    this.response.element.classList.add("span-7", "fills");
    this.training.element.classList.add("span-8", "fills");
  }

  close() {
    this.closed = true;
    this.feed?.close();
    this.refresh.cancel();
    this.response.close();
    this.training.close();
    hideLink();
  }

  async load() {
    document.title = `${P.title(this.birth)} · evosearch`;
    fill(this.host, h("div", { class: "page" }, loadingState(8)));
    try {
      // First how far the log is: the feed goes on from there, so nothing falls between.
      const search = await get(`/searches/${this.search}`);
      const [about, detail] = await Promise.all([get(`${this.path}/about`), get(this.path)]);
      if (this.closed) return;
      this.about = about;
      this.detail = detail;
      this.title = search.title;
      useObjectives(search.objectives);
      this.status = search.status;
      this.place = search.last_event;
    } catch (err) {
      if (this.closed) return;
      const missing = /** @type {any} */ (err).status === 404;
      fill(this.host, h("div", { class: "page" }, h("div", { class: "card" }, missing
        ? emptyState(P.noCandidate, h("a", { href: href(`search/${this.search}`) }, P.back), "search")
        : errorState(err, () => this.load()))));
      return;
    }
    fill(this.host, h("div", { class: "page candidate-page" }, this.head, h("div", { class: "grid" },
      this.formula.element, this.gain.element, this.graph.element, this.response.element,
      this.training.element, h("div", { class: "span-4 stack" }, this.facts.element, this.cost.element),
      this.scores.element, this.checks.element, this.exports.element, this.family.element)));
    this.draw();
    this.loadParts();
    this.listen();
  }

  /** What does not change with the search, and what may fail by itself. */
  loadParts() {
    const showCurves = async () => {
      try {
        showResponse(this.response, await get(`${this.path}/response`));
      } catch (err) {
        this.response.failed(err, showCurves);
      }
    };
    showCurves();
    this.loadTrainings();
    loadInto(this.family.body, async () => familyParts(this.search, await get(`${this.path}/family`)));
  }

  async loadTrainings() {
    try {
      this.trainings = await get(`${this.path}/trainings`);
      this.drawTrainings();
    } catch (err) {
      this.training.failed(err, () => this.loadTrainings());
    }
  }

  drawTrainings() {
    if (!this.trainings) return;
    const mine = this.trainings.curves.filter((/** @type {any} */ one) => !one.baseline);
    if (!mine.length) {
      this.training.empty(P.noTrainings, P.noTrainingsHelp);
      return;
    }
    const rate = mine[0].learning_rate;
    showTrainings(this.training, this.trainings.anchors,
      this.trainings.curves.filter((/** @type {any} */ one) => one.baseline || (one.learning_rate === rate && one.split === "select")),
      { log: this.log, mine: () => ({ name: P.mine, place: 0 }) });
  }

  /** A search that still runs may say more of this candidate at any time. */
  listen() {
    if (this.status !== "running" && this.status !== "paused") return;
    this.feed = new EventFeed(`/searches/${this.search}/events/stream`, (events) => {
      const about = (/** @type {any} */ one) => one.event?.birth ?? one.event?.subject?.birth;
      if (events.some((one) => about(one) === this.birth || one.kind === "status_changed")) this.refresh();
    }, (state, since) => {
      showLink(state, since, () => this.feed?.reconnect());
      if (state === "live" && this.lost) this.refresh();
      this.lost = state === "lost";
    }, String(this.place));
  }

  async update() {
    try {
      const [about, detail, search] = await Promise.all(
        [get(`${this.path}/about`), get(this.path), get(`/searches/${this.search}`)]);
      if (this.closed) return;
      [this.about, this.detail, this.status] = [about, detail, search.status];
      this.draw();
      await this.loadTrainings();
    } catch (err) {
      if (!this.closed) toastProblem(err);
    }
  }

  draw() {
    const { about, detail } = this;
    this.drawHead(about);
    const why = P.why[/** @type {"other"} */ (about.state)] ?? P.why.other;
    this.formula.set(formulaParts(about),
      h("div", { class: "why" }, h("h3", {}, why), h("p", {}, about.verdict.reason)));
    this.drawGain(about);
    this.graph.set(drawGraph(about.drawing, `graph-${this.search}-${this.birth}`), graphLegend());
    this.facts.set(propertyList(about.behaviour));
    this.drawCost(about);
    this.scores.set(about.scores.length ? scoreTable(about.scores) : emptyState(P.noTrainings, P.noTrainingsHelp));
    this.checks.set(detail.checks.length ? checkTable(detail.checks) : emptyState(P.noChecks));
    this.exports.set(exportPanel(about.usage, (format) =>
      request("GET", url(`${this.path}/export`, { format }))));
  }

  /** @param {any} about */
  drawHead(about) {
    const name = `${this.search}-${this.birth}`;
    const running = this.status === "running" || this.status === "paused";
    const tray = button(P.compare, () => {
      const names = new Set(recall(TRAY, "session") ?? []).add(name);
      keep(TRAY, [...names].slice(-8), "session");
      toast(P.compared, { action: { text: T.nav.compare, run: () => location.assign(
        href(`compare?${[...names].map((one) => `candidate=${one}`).join("&")}`)) } });
    }, { icon: "compare" });
    const state = { evaluated: "good", rejected: "bad", failed: "bad", quarantined: "bad" }[/** @type {"failed"} */ (about.state)];
    fill(this.head,
      h("div", { class: "crumbs" },
        h("a", { href: href(`search/${this.search}`) }, this.title), h("span", { class: "quiet", "aria-hidden": "true" }, "/"),
        h("h1", {}, P.title(this.birth))),
      h("div", { class: "pills" },
        h("span", { class: ["pill", state] }, about.state),
        about.rank !== null && h("span", { class: "pill" }, P.rank(about.rank, about.evaluated)),
        this.detail.on_front && h("span", { class: "pill accent", tabindex: "0", data: { tip: WORDS.front } }, P.onFront),
        h("span", { class: "pill", tabindex: "0", data: { tip: WORDS.origin } }, about.origin), knownPill(about.known_as)),
      h("div", { class: "spacer" }),
      h("div", { class: "actions" },
        h("a", { class: "button", href: href(`layer?formula=${encodeURIComponent(about.formula)}`) }, P.tryIt), tray,
        running && about.state === "evaluated" && button(P.remeasure, () => this.remeasure(), { icon: "repeat" }),
        button(P.exportGo, () => this.exports.element.scrollIntoView({ behavior: "smooth", block: "center" }), { icon: "download", kind: "primary" })));
  }

  /** @param {any} about */
  drawGain(about) {
    this.gain.tip(P.gainTip([gainUnit(), meaning()].filter(Boolean).join(", ")));
    if (!about.gain) {
      this.gain.set(emptyState(P.noGain, P.noGainHelp));
      return;
    }
    const seeds = about.gain_seeds;
    this.gain.set(
      h("div", { class: "save-line no-print" }, saveButton(dotSource(`gain-${this.search}-${this.birth}`, () => gainRows(about, P.mean)))),
      h("div", { class: ["big-gain", tone(about.gain)] }, h("strong", {}, gainText(about.gain)), h("span", {}, gainUnit(), meaning() && h("small", { class: "quiet" }, ` ${meaning()}`))),
      h("p", { class: seeds > 1 ? "" : "warn" }, seeds > 1 ? P.confirmed(seeds) : P.provisional),
      gainDots(gainRows(about, P.mean), P.gain),
      h("p", { class: "quiet small gain-note" }, P.gainNote));
  }

  /** @param {any} about */
  drawCost(about) {
    const times = (/** @type {number | null} */ value) => P.times(number(value, 2));
    const rows = (/** @type {[string, number | null][]} */ entries) => entries.map(([key, value]) => [
      h("dt", {}, P.costRows[/** @type {"step"} */ (key)]), h("dd", {}, value === null ? number(null) : times(value))]);
    const list = h("dl", { class: "facts" }, rows([["step", about.step_time]]));
    const note = h("p", { class: "quiet small" });
    const measure = button(P.measure, async () => {
      measure.disabled = true;
      measure.textContent = P.measuring;
      try {
        const found = await get(`${this.path}/cost`);
        fill(list, rows([["step", about.step_time], ...["forward", "forward_backward", "saved_bytes", "saved_bytes_recompute"]
          .map((key) => /** @type {[string, number]} */ ([key, found[key]]))]));
        note.textContent = P.measured(found.shape.join(" × "), found.runs);
        measure.remove();
      } catch (err) {
        toastProblem(err);
        measure.disabled = false;
        measure.textContent = P.measure;
      }
    });
    this.cost.set(list, note, measure);
  }

  async remeasure() {
    const field = h("input", { class: "input", id: "seeds", type: "number", min: "1", max: "20", value: "2", required: true });
    const sure = await ask({ title: P.remeasure, ok: P.remeasure, body: h("div", { class: "field" },
      h("label", { for: "seeds" }, P.columns.seeds), field) });
    if (!sure) return;
    try {
      await post(`${this.path}/remeasure`, { seeds: Number(field.value) });
      toast(P.remeasure);
    } catch (err) {
      toastProblem(err);
    }
  }
}
