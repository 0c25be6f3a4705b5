/**
 * The table of candidates: in order of the lower bound of the gain, or any other; filtered by
 * state, text, a condition, and the box that was brushed on the chart.
 * @module
 */
import { get, put, remove, url } from "../api.js";
import { h, throttled } from "../dom.js";
import { duration, marginText, NONE, number, points, score } from "../format.js";
import { icon } from "../icons.js";
import { furtherObjectives, objectiveOf, shortTitle } from "../measure.js";
import { params, setParams } from "../router.js";
import { T, WORDS } from "../strings.js";
import { Table } from "../table.js";
import { button, toastProblem } from "../ui.js";
import { ranges } from "./filter.js";

const PAGE = 100;
const BY_GAIN = "-gain_low";
/** State that is shown -> kinds of events that add a row to it. @type {Record<string, string[]>} */
const ADDED = {
  any: ["candidate_queued", "candidate_duplicate", "enqueued_refused"], evaluated: ["candidate_evaluated"],
  rejected: ["candidate_rejected", "enqueued_refused"], duplicate: ["candidate_duplicate"],
  failed: ["candidate_failed"], queued: ["candidate_queued"], lost: ["job_lost"],
};

export class Candidates {
  /**
   * @param {import("./model.js").Model} model
   * @param {{openDrawer: (birth: number) => void, openPage: (birth: number) => void,
   *          tray: import("./tray.js").Tray}} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    const chosen = params();
    this.text = h("input", { class: "input", type: "search", placeholder: T.table.search, "aria-label": T.table.search,
      maxlength: "200", oninput: () => this.typed() });
    this.where = h("input", { class: "input mono where", type: "search", placeholder: T.table.where, "aria-label": T.table.where,
      maxlength: "1000", spellcheck: "false", oninput: () => this.typed() });
    this.state = h("select", { class: "input pick", "aria-label": T.table.stateLabel, onchange: () => this.changed() },
      Object.entries(T.table.states).map(([value, text]) => h("option", { value }, text)));
    this.starred = button(T.table.starred, () => setParams({ starred: params().get("starred") ? null : "true" }), { icon: "star", id: "starred" });
    this.downloads = h("span", { class: "actions" });
    this.table = new Table({
      label: T.table.label, columns: this.columns(), key: (row) => String(row.birth), sort: BY_GAIN,
      load: (cursor, sort, signal) => this.load(cursor, sort, signal), empty: T.table.none, total: () => this.total(),
      onSelect: (row, event) => {
        if (event instanceof MouseEvent && event.shiftKey) page.tray.toggle(this.name(row.birth));
        else page.openDrawer(row.birth);
      },
      onOpen: (row) => page.openPage(row.birth),
      onNews: () => this.takeNews(),
      onSort: (sort) => {
        setParams({ sort: sort === this.usual() ? null : sort });
        return this.order();
      },
      onKey: (event, row) => {
        if (event.key === "c") page.tray.toggle(this.name(row.birth));
        if (event.key === "s") this.star(row);
      },
      rowClass: (row) => (row.state === "evaluated" ? (row.on_front ? "on-front" : "") : "not-evaluated"),
    });
    this.element = h("div", { class: "candidates" },
      h("div", { class: "toolbar no-print" }, this.state, this.starred, this.text, this.where, h("div", { class: "spacer" }), this.downloads), this.table.element);
    this.later = throttled(() => this.changed(), 350);
    this.readParams();
    this.table.sort = this.order();
    this.refill = throttled(() => this.takeNews(), 1500);
    this.count = throttled(() => this.countNews(), 3000);
    this.off = model.on("events", () => this.news());
    this.offInside = model.on("inside", () => this.table.recount());
    this.offLink = model.on("link", () => {
      if (model.linked === "live" && this.table.broken) this.reload();
    });
    this.applied = this.sign();
    this.reload();
  }

  close() {
    this.off();
    this.offLink();
    this.offInside();
    for (const one of [this.refill, this.later, this.count]) one.cancel();
    this.table.close();
  }

  /** @param {number} birth */
  name(birth) {
    return `${this.model.id}-${birth}`;
  }

  readParams() {
    const chosen = params();
    this.state.value = chosen.get("state") ?? (chosen.has("stage") ? "rejected" : "evaluated");
    this.starred.setAttribute("aria-pressed", String(chosen.has("starred")));
    if (document.activeElement !== this.text) this.text.value = chosen.get("text") ?? "";
    if (document.activeElement !== this.where) this.where.value = chosen.get("where") ?? "";
  }

  /** The order where none was chosen: what has no score has no gain. */
  usual() {
    return this.state.value === "evaluated" ? BY_GAIN : "-birth";
  }

  /** The order that is shown; by what only evaluated ones have, only where there are some. */
  order() {
    const chosen = params().get("sort") ?? this.usual();
    const scored = /^-?(gain|gain_low|mean_score|finished_at|score\..*)$/.test(chosen);
    return scored && !["evaluated", "any"].includes(this.state.value) ? "-birth" : chosen;
  }

  typed() {
    this.later();
  }

  changed() {
    setParams({ state: this.state.value === "evaluated" ? null : this.state.value, text: this.text.value, where: this.where.value, stage: null });
  }

  /** The URL has changed: what of it is ours is shown. */
  update() {
    this.readParams();
    if (this.sign() === this.applied) return;
    this.applied = this.sign();
    this.table.sort = this.order();
    this.reload();
  }

  sign() {
    const chosen = params();
    return ["state", "starred", "text", "where", "stage", "brush", "sort"].map((key) => chosen.get(key)).join("\n");
  }

  /** Rows that came in since the table was loaded: as many as its filter lets through. */
  news() {
    const came = this.came();
    if (!came) return;
    if (!this.table.rows.length) this.refill();
    else if (!this.narrowed()) this.table.offer(came);
    else if (this.state.value === "evaluated" || ranges().length) this.count();
    else this.table.offer(came, T.newRowsAtMost(came));
  }

  /** Events since then that add a row of the state that is shown, and of the check. */
  came() {
    const stage = params().get("stage");
    const { fresh } = this.model;
    if (stage) return fresh.get(`candidate_rejected/${stage}`) ?? 0;
    return (ADDED[this.state.value] ?? []).reduce((sum, kind) => sum + (fresh.get(kind) ?? 0), 0);
  }

  /** Whether the rows are fewer than those of the state: how many are new is not told by events. */
  narrowed() {
    const chosen = params();
    return ["text", "where", "starred"].some((key) => chosen.get(key)) || ranges().length > 0;
  }

  /** The service says how many evaluated ones are new in the filter. */
  async countNews() {
    const filter = this.filter();
    const where = `${filter.where ? `(${filter.where}) and ` : ""}outcome > ${this.since}`;
    const sign = this.sign() + this.since;
    try {
      const page = await get(`${this.model.path}/candidates`, { ...filter, where, sort: "-finished_at", limit: PAGE });
      if (sign !== this.sign() + this.since) return;
      const found = page.candidates.length;
      this.table.offer(found, page.next && found === PAGE ? T.newRowsAtLeast(found) : undefined);
    } catch {
      // Both conditions may be too long together; a filter that is wrong by itself the table tells of.
      if (sign === this.sign() + this.since && !this.table.broken) this.table.offer(this.came(), T.newRowsAtMost(this.came()));
    }
  }

  /** The table anew, with what came since. */
  async takeNews() {
    await this.reload();
  }

  reload() {
    this.model.fresh.clear();
    /** Number of the newest event when the table was loaded. */
    this.since = this.model.last;
    const filter = this.filter();
    this.downloads.replaceChildren(...[["csv", T.table.csv], ["parquet", T.table.parquet]].map(([form, text]) =>
      h("a", { class: "button plain", href: url(`${this.model.path}/candidates.${form}`, filter), download: "" }, icon("download"), text)));
    return this.table.reload();
  }

  filter() {
    const chosen = params();
    const state = this.state.value === "any" ? null : this.state.value;
    return { state, starred: chosen.get("starred"), text: chosen.get("text"), where: chosen.get("where"), stage: chosen.get("stage"), range: ranges() };
  }

  total() {
    const chosen = params();
    if (["text", "where", "stage", "starred"].some((key) => chosen.get(key))) return null;
    if (ranges().length) return this.state.value === "evaluated" || this.state.value === "any" ? (this.model.data.inside?.total ?? null) : null;
    const states = this.model.data.search?.states ?? {};
    if (this.state.value === "any") return Object.values(states).reduce((sum, one) => sum + one, 0);
    return states[this.state.value] ?? null;
  }

  /**
   * @param {string | null} cursor
   * @param {string} sort
   * @param {AbortSignal} signal
   */
  async load(cursor, sort, signal) {
    const page = await get(`${this.model.path}/candidates`, { ...this.filter(), sort, limit: PAGE, cursor }, signal);
    return { rows: page.candidates, next: page.next };
  }

  /**
   * Gives the candidate a star, or takes it away; a note of the reader, kept by the service.
   * @param {any} row
   */
  async star(row) {
    const wanted = !row.starred;
    try {
      await (wanted ? put : remove)(`${this.model.path}/candidates/${row.birth}/star`);
    } catch (err) {
      toastProblem(err);
      return;
    }
    const held = document.activeElement?.closest(".favourite, [data-place]");
    this.table.refresh((one) => (one.birth === row.birth ? { ...one, starred: wanted } : undefined));
    const again = this.table.element.querySelector(`[data-star="${row.birth}"]`);
    const at = held?.matches(".favourite") ? again : held && again?.closest("[data-place]");
    if (at instanceof HTMLElement) at.focus({ preventScroll: true });
  }

  /** @param {any} row */
  gain(row) {
    const { gain } = row;
    if (!gain) return row.mean_score === null ? NONE : score(row.mean_score);
    const sure = gain.low > 0 ? "good" : gain.value < 0 ? "quiet" : "";
    return h("span", { class: sure }, h("strong", {}, points(gain.value)),
      gain.low === null ? "" : h("span", { class: "quiet small" }, ` ± ${marginText((gain.high - gain.low) / 2)}`));
  }

  /** @returns {import("../table.js").Column[]} */
  columns() {
    const anchors = this.model.data.search.anchors;
    const mark = (/** @type {any} */ row) => {
      const name = this.name(row.birth);
      return h("button", { type: "button", class: ["star", "beside", this.page.tray.has(name) && "on"], data: { tip: T.table.besideTip },
        "aria-pressed": String(this.page.tray.has(name)), "aria-label": `${T.table.besideTip}: ${row.birth}`, onclick: () => this.page.tray.toggle(name) }, icon("compare"));
    };
    const star = (/** @type {any} */ row) => h("button", { type: "button", class: ["star", "favourite", row.starred && "on"], data: { tip: T.table.starTip, star: String(row.birth) },
      "aria-pressed": String(row.starred), "aria-label": `${T.table.starTip}: ${row.birth}`, onclick: () => this.star(row) }, icon("star"));
    const yes = (/** @type {boolean | null} */ value) => (value === null ? NONE : h("span", { class: value ? "good" : "quiet" }, value ? T.table.yes : T.table.no));
    return [
      { key: "star", title: "", width: "26px", cell: star },
      { key: "beside", title: "", width: "30px", cell: mark },
      { key: "id", title: T.table.id, width: "62px", sort: "-birth", tip: WORDS.birth, align: "right", cell: (row) => h("span", { class: "mono" }, row.birth) },
      { key: "formula", title: T.table.formula, width: "minmax(84px, 1fr)", cell: (row) => this.formula(row) },
      { key: "gain", title: T.table.gain, width: "96px", align: "right", sort: BY_GAIN, tip: T.table.gainTip, cell: (row) => this.gain(row) },
      ...anchors.slice(0, 6).map((/** @type {string} */ anchor) => ({
        key: anchor, title: shortTitle(anchor), tip: objectiveOf(anchor)?.label, width: "88px", align: /** @type {const} */ ("right"), sort: `-score.${anchor}`, least: 820, cell: (/** @type {any} */ row) => score(row.scores?.[anchor], anchor) })),
      ...furtherObjectives().slice(0, 4).map((name) => ({
        key: name, title: shortTitle(name), tip: objectiveOf(name)?.label, width: "104px", align: /** @type {const} */ ("right"), sort: `-score.${name}`, least: 1000, cell: (/** @type {any} */ row) => score(row.scores?.[name], name) })),
      { key: "seeds", title: T.table.seeds, width: "56px", align: "right", sort: "-seeds", tip: WORDS.seeds, least: 560, cell: (row) => row.gain_seeds || row.seeds || NONE },
      { key: "nodes", title: T.table.nodes, width: "60px", align: "right", sort: "live_nodes", tip: WORDS.live_nodes, least: 560, cell: (row) => row.live_nodes },
      { key: "time", title: T.table.time, width: "60px", align: "right", sort: "step_time", tip: T.table.timeTip, least: 900, cell: (row) => this.time(row) },
      { key: "batch", title: T.table.batch, width: "84px", tip: WORDS.batch_independent, least: 1000, cell: (row) => yes(row.batch_independent) },
      { key: "origin", title: T.table.origin, width: "80px", tip: WORDS.origin, least: 1000, cell: (row) => h("span", { class: "quiet" }, row.origin) },
      { key: "state", title: T.table.state, width: "104px", least: 700, cell: (row) => this.fate(row) },
    ];
  }

  /** @param {any} row */
  time(row) {
    if (row.step_time !== null) return `${number(row.step_time, 2)}×`;
    return row.state === "evaluated" ? NONE : h("span", { class: "quiet" }, duration(row.seconds));
  }

  /** @param {any} row */
  formula(row) {
    const text = row.formula ?? NONE;
    return h("code", { class: "clip block", title: text }, text);
  }

  /** @param {any} row */
  fate(row) {
    if (row.on_front) return h("span", { class: "front-mark", data: { tip: WORDS.front } }, T.table.onFront);
    const text = T.table.states[/** @type {"evaluated"} */ (row.state)] ?? row.state;
    const why = row.rejection_code ?? row.failure_cause ?? (row.duplicate_of === null ? null : `= ${row.duplicate_of}`);
    const tip = WORDS[row.rejection_code ?? ""] ?? WORDS[row.state];
    return h("span", { class: "quiet", ...(tip ? { data: { tip } } : { title: why ?? "" }) }, row.state === "evaluated" ? text : (why ?? text));
  }
}
