/**
 * The sticky header of a search: is it alive, how far, when will it end; pause, stop, extend.
 * @module
 */
import { patch, post, Problem } from "../api.js";
import { fill, h, setText } from "../dom.js";
import { ago, count, duration, moment, number, NONE } from "../format.js";
import { icon } from "../icons.js";
import { progressBar, statePill, wanted } from "../parts.js";
import { href } from "../router.js";
import { T } from "../strings.js";
import { ask, button, toast, toastProblem, word } from "../ui.js";

/**
 * @param {unknown} err
 * @returns {err is Problem}
 */
const asksAboutCode = (err) => err instanceof Problem && err.errors.some((one) => one.where === "accept_changed_code");

/** Outcomes later than so many usual gaps are remarkable. */
const LATE = 5;

export class Header {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.model = model;
    this.title = h("input", { class: "title-input", "aria-label": T.search.rename, maxlength: "200",
      spellcheck: "false", onchange: () => this.rename(), oninput: () => this.fit(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Enter") this.title.blur();
        if (event.key === "Escape") {
          event.stopPropagation();
          this.title.value = this.model.data.search.title;
          this.title.blur();
        }
      } });
    this.state = h("span", { class: "header-state" });
    this.still = h("small", { class: "quiet" });
    this.actions = h("div", { class: "actions no-print" });
    /** @type {Record<string, {box: HTMLElement, value: HTMLElement, label: HTMLElement}>} */
    this.cells = {};
    this.strip = h("dl", { class: "strip" });
    for (const [key, label] of Object.entries({
      last: T.search.lastEvaluation, evaluated: T.search.evaluations, finish: T.search.finish,
      workers: T.search.workersBusy, cost: T.search.workerHours, failures: T.search.failures,
    })) {
      const value = h("dd", {}, NONE);
      const name = h("dt", {}, label);
      const box = h("div", { class: "strip-cell", data: { cell: key } }, name, value);
      this.cells[key] = { box, value, label: name };
      this.strip.append(box);
    }
    this.line = h("div", { class: "header-line" }, this.title, this.state, h("div", { class: "spacer" }), this.actions);
    this.element = h("header", { class: "search-header" }, this.line, this.strip);
    for (const topic of ["search", "line", "workers", "costs"]) model.on(topic, () => this.draw());
    this.clock = setInterval(() => this.drawAge(), 1000);
  }

  close() {
    clearInterval(this.clock);
  }

  fit() {
    this.title.style.width = `calc(${Math.max(6, this.title.value.length)}ch + 22px)`;
  }

  async rename() {
    const { search } = this.model.data;
    const wanted = this.title.value.trim();
    if (!wanted || wanted === search.title) {
      this.title.value = search.title;
      return;
    }
    try {
      await patch(this.model.path, { title: wanted });
      this.model.load("search");
    } catch (err) {
      this.title.value = search.title;
      toastProblem(err);
    }
  }

  draw() {
    const { search, line, workers, costs } = this.model.data;
    if (!search) return;
    if (document.activeElement !== this.title) {
      this.title.value = search.title;
      this.fit();
      document.title = `${search.title} · evosearch`;
    }
    const running = search.status === "running";
    const idle = running && workers && !workers.controllers.some((/** @type {any} */ one) =>
      one.alive && one.searches.includes(search.id));
    const sign = `${search.status}/${search.phase}/${idle}`;
    if (this.state.dataset.sign !== sign) {
      this.state.dataset.sign = sign;
      fill(this.state, statePill(search.status),
        running && search.phase !== "search" && h("span", { class: "small quiet" }, T.phases[/** @type {"confirm"} */ (search.phase)]),
        idle && h("span", { class: "pill warn", tabindex: "0", data: { tip: T.search.noControllerTip } }, T.search.noController));
      this.drawActions(search);
    }
    fill(this.cells.evaluated.value, h("strong", {}, count(search.evaluated)), ` / ${count(wanted(search))}`,
      progressBar(search.evaluated / wanted(search), T.search.evaluations));
    this.drawFinish(search);
    if (workers) this.drawWorkers(workers, search);
    if (costs) {
      const caps = search.limits;
      const gpus = costs.gpu_hours > 0 || caps.gpu_hours;
      fill(this.cells.cost.label, gpus ? word("gpu_hours", T.search.gpuHours) : T.search.workerHours);
      fill(this.cells.cost.value, h("strong", {}, number(gpus ? costs.gpu_hours : costs.worker_seconds / 3600, 2)),
        gpus && caps.gpu_hours ? ` / ${number(caps.gpu_hours, 1)}` : "");
    }
    if (line) {
      const failed = line.failures_last_hour;
      fill(this.cells.failures.value, h("strong", { class: failed ? "bad" : "" }, count(failed)));
      this.drawAge();
    }
  }

  /** @param {any} search */
  drawFinish(search) {
    const cell = this.cells.finish;
    delete cell.box.dataset.tip;
    if (search.status !== "running") {
      const over = search.status !== "paused";
      setText(cell.label, over ? T.search.ended : T.search.finish);
      setText(cell.value, over ? moment(search.updated_at) : T.search.notRunning);
      return;
    }
    if (search.phase !== "search") {
      setText(cell.value, T.search.confirming);
      return;
    }
    const { line } = this.model.data;
    const rate = line?.evaluations_per_hour;
    if (!rate) {
      setText(cell.value, T.search.soon);
      return;
    }
    const [by, left] = this.ends(search, line, rate).reduce((one, other) => (other[1] < one[1] ? other : one));
    fill(cell.value, h("strong", {}, moment(Date.now() + 3_600_000 * left)));
    cell.box.dataset.finish = by;
    const { target, no_gain: noGain } = search.limits;
    cell.box.dataset.tip = [T.search.finishTip(number(rate)), T.search.finishBy[by],
      (target ?? noGain) !== null && T.search.finishEarlier].filter(Boolean).join(" ");
  }

  /**
   * Hours until each limit is used up, as far as that can be foretold: evaluations at the rate of
   * late, training steps at so many an evaluation, GPU-hours at so many an hour of work.
   * @param {any} search
   * @param {any} line
   * @param {number} rate evaluations an hour
   * @returns {["evaluations" | "hours" | "gpu_hours" | "train_steps", number][]}
   */
  ends(search, line, rate) {
    const { limits } = search;
    const { costs } = this.model.data;
    const evaluations = Math.max(0, search.budget - search.evaluated);
    /** @type {["evaluations" | "hours" | "gpu_hours" | "train_steps", number][]} */
    const found = [["evaluations", evaluations / rate]];
    if (limits.hours !== null) found.push(["hours", limits.hours - line.worked_hours]);
    if (limits.gpu_hours !== null && costs?.gpu_hours > 0 && line.worked_hours > 0) {
      found.push(["gpu_hours", ((limits.gpu_hours - costs.gpu_hours) * line.worked_hours) / costs.gpu_hours]);
    }
    const runs = costs?.training ?? [];
    const steps = (/** @type {any[]} */ some) => some.reduce((sum, one) => sum + one.steps, 0);
    const each = steps(runs.filter((/** @type {any} */ one) => one.purpose === "search")) / search.evaluated;
    if (limits.train_steps !== null && each > 0) found.push(["train_steps", (limits.train_steps - steps(runs)) / each / rate]);
    return found.map(([name, hours]) => [name, Math.max(0, hours)]);
  }

  /** Where what stays in sight of it ends, in pixels from the window's top. */
  bottom() {
    return Math.max(0, this.element.getBoundingClientRect().bottom, this.line.getBoundingClientRect().bottom);
  }

  /**
   * @param {any} workers
   * @param {any} search
   */
  drawWorkers(workers, search) {
    const mine = workers.controllers.filter((/** @type {any} */ one) => one.alive && one.searches.includes(search.id));
    const all = mine.flatMap((/** @type {any} */ one) => one.workers).filter((/** @type {any} */ one) => one.state !== "dead");
    const busy = all.filter((/** @type {any} */ one) => one.state === "busy").length;
    if (!mine.length) setText(this.cells.workers.value, NONE);
    else fill(this.cells.workers.value, h("strong", {}, busy), ` / ${all.length}`);
  }

  /** The age of the last evaluation, each second; and that of the last outcome where that is later. */
  drawAge() {
    const { line, search } = this.model.data;
    if (!line || !search) return;
    const { box, value } = this.cells.last;
    const since = (/** @type {string | null} */ when) => (when === null ? null : Math.max(0, (Date.now() - Date.parse(when)) / 1000));
    const age = since(line.last_evaluation);
    const outcome = since(line.last_outcome);
    const running = search.status === "running";
    const late = (/** @type {number | null} */ seconds, /** @type {number | null} */ gap) =>
      running && seconds !== null && gap !== null && seconds > Math.max(5, LATE * gap);
    const amber = late(age, line.evaluation_gap) || (age === null && late(outcome, line.median_gap));
    setText(value, age === null ? T.search.never : ago(age));
    value.classList.toggle("warn", amber);
    // A search that only rejects is alive, and yet comes to nothing: both are to be seen.
    const still = running && outcome !== null && (age === null || (amber && outcome < age)) ? T.search.outcomes(ago(outcome)) : "";
    setText(this.still, still);
    if (still) value.append(" ", this.still);
    if (line.evaluation_gap !== null) box.dataset.tip = T.search.lastTip(duration(line.evaluation_gap));
  }

  /** @param {any} search */
  drawActions(search) {
    const going = search.status === "running";
    const alive = going || search.status === "paused";
    fill(this.actions,
      alive && (going
        ? button(T.search.pause, () => this.send("pause"), { icon: "pause", id: "pause" })
        : button(T.search.resume, () => this.send("resume"), { icon: "play", id: "resume", kind: "primary" })),
      alive && button(T.search.extend, () => this.extend(), { icon: "extend", id: "extend" }),
      alive && button(T.search.stop, () => this.stop(), { icon: "stop", id: "stop", kind: "danger" }),
      h("a", { class: "button plain icon", href: href(`search/${search.id}/report`), id: "report", "aria-label": T.search.report, data: { tip: T.search.report } }, icon("print")));
  }

  /**
   * @param {"pause" | "resume" | "stop" | "extend"} command
   * @param {any} [body]
   */
  async send(command, body) {
    try {
      await post(`${this.model.path}/${command}`, body);
      const told = this.model.data.workers?.controllers.some((/** @type {any} */ one) => one.alive);
      toast(told ? T.search.asked[command] : `${T.search.asked[command]} ${T.search.waits}`);
      this.model.touch("search");
    } catch (err) {
      if (command === "resume" && body === undefined && asksAboutCode(err)) await this.resumeChanged(err);
      else toastProblem(err);
    }
  }

  /** @param {Problem} problem what the service says of the plug-ins' other code */
  async resumeChanged(problem) {
    const body = h("p", {}, problem.message);
    if (await ask({ title: T.search.changedTitle, body, ok: T.search.changedOk })) {
      await this.send("resume", { accept_changed_code: true });
    }
  }

  async stop() {
    if (await ask({ title: T.search.stopTitle, body: h("p", {}, T.search.stopBody), ok: T.search.stop, danger: true })) {
      await this.send("stop");
    }
  }

  /** The limits of the budget, each in all; what is changed is sent, an empty field clears. */
  async extend() {
    const { search } = this.model.data;
    /** @type {Record<string, number | null>} */
    const now = { evaluations: search.budget, ...search.limits };
    const field = (/** @type {string} */ name, /** @type {Record<string, string | boolean>} */ more) =>
      h("input", { class: "input", id: `budget-${name}`, type: "number", value: String(now[name] ?? ""), ...more });
    /** @type {Record<string, HTMLInputElement>} */
    const fields = {
      evaluations: field("evaluations", { required: true, min: String(Math.max(1, search.evaluated)),
        max: "1000000000", value: String(Math.round(search.budget * 1.5)) }),
      hours: field("hours", { min: "0.001", step: "any" }),
      gpu_hours: field("gpu_hours", { min: "0.001", step: "any" }),
      train_steps: field("train_steps", { min: "1" }),
    };
    const rows = Object.entries(fields).map(([name, input]) => h("div", { class: "field" },
      h("label", { for: input.id }, T.search.limits[/** @type {"hours"} */ (name)]), input));
    const help = h("p", { class: "small quiet" }, T.search.extendHelp);
    if (!await ask({ title: T.search.extendTitle, ok: T.search.extend, body: h("div", {}, ...rows, help) })) return;
    const wanted = Object.entries(fields).map(([name, input]) => [name, input.value === "" ? null : Number(input.value)]);
    const changed = wanted.filter(([name, value]) => value !== now[/** @type {string} */ (name)]);
    if (changed.length) await this.send("extend", Object.fromEntries(changed));
  }
}
