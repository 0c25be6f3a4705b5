/**
 * Who evaluates what, and which failures there were.
 * @module
 */
import { get } from "../api.js";
import { fill, h, throttled } from "../dom.js";
import { ago, count, duration, exactMoment } from "../format.js";
import { Still } from "../still.js";
import { T } from "../strings.js";
import { plainTable } from "../table.js";
import { emptyState, errorState, loadingState } from "../ui.js";

export class Workers {
  /**
   * @param {import("./model.js").Model} model
   * @param {any} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.controllers = h("div", {}, loadingState(3));
    this.failures = h("div", {});
    this.element = h("div", { class: "panel" }, this.controllers, h("h3", {}, T.workers.failures), this.failures);
    const again = throttled(() => this.loadFailures(), 5000);
    this.still = new Still(this.controllers);
    this.stillFailures = new Still(this.failures);
    const offs = [model.on("workers", () => this.still.run(() => this.draw())), model.on("line", () => again())];
    this.off = () => {
      offs.forEach((one) => one());
      again.cancel();
    };
    model.load("workers");
    this.loadFailures();
  }

  close() {
    this.off();
  }

  async loadFailures() {
    try {
      const found = await get(`${this.model.path}/failures`);
      this.stillFailures.run(() => this.drawFailures(found));
    } catch (err) {
      this.stillFailures.run(() => fill(this.failures, errorState(err, () => this.loadFailures())));
    }
  }

  /** @param {any} found */
  drawFailures(found) {
    if (!found.total) {
      fill(this.failures, h("p", { class: "quiet" }, T.workers.noFailures));
      return;
    }
    fill(this.failures, plainTable([{ title: T.workers.cause }, { title: T.workers.candidates, align: "right" }, { title: T.workers.jobs, align: "right" },
        { title: T.workers.last }, { title: T.workers.candidate }],
      found.causes.map((/** @type {any} */ one) => [one.cause, count(one.candidates), count(one.jobs), exactMoment(one.last),
        one.births.map((/** @type {number} */ birth) => [h("button", { type: "button", class: "linklike", onclick: () => this.page.openDrawer(birth) }, birth), " "])]), T.workers.failures),
      found.workers.length ? [h("h3", {}, T.workers.byWorker), plainTable([{ title: T.workers.worker }, { title: T.workers.failures }],
        found.workers.slice(0, 20).map((/** @type {any} */ one) => [one.worker, causes(one.causes)]), T.workers.byWorker)] : null);
  }

  draw() {
    const found = this.model.data.workers;
    if (!found) {
      fill(this.controllers, errorState(this.model.errors.workers, () => this.model.load("workers")));
      return;
    }
    if (!found.controllers.length) {
      fill(this.controllers, emptyState(T.workers.none, T.workers.noneHelp));
      return;
    }
    fill(this.controllers, found.controllers.map((/** @type {any} */ one) => h("section", { class: "controller" },
      h("p", {}, h("span", { class: ["pill", one.alive ? "running" : ""] }, one.alive ? T.workers.alive : T.workers.gone), " ",
        h("strong", {}, one.host), h("span", { class: "quiet" }, ` ${one.owner} · ${one.pool} · ${T.workers.seen} ${ago(one.seen_seconds_ago)}`)),
      one.workers.length ? plainTable([{ title: T.workers.worker }, { title: T.workers.state }, { title: T.workers.evaluates }, { title: T.workers.since, align: "right" }, { title: T.workers.atWorker }],
        one.workers.map((/** @type {any} */ worker) => [worker.name, this.state(worker.state), this.job(worker), duration(worker.seconds), causes(worker.failures ?? {})]), one.host) : null)),
      h("p", { class: "quiet small" }, T.workers.help));
  }

  /** @param {string} state */
  state(state) {
    const tone = { starting: "warn", busy: "good", dead: "bad" }[/** @type {"busy"} */ (state)] ?? "quiet";
    return h("span", { class: tone }, T.workers.states[/** @type {"busy"} */ (state)] ?? state);
  }

  /** @param {any} worker */
  job(worker) {
    if (!worker.job) return "";
    const found = /^c(\d+)/.exec(worker.job);
    if (worker.search === this.model.id && found) {
      return h("button", { type: "button", class: "linklike", onclick: () => this.page.openDrawer(Number(found[1])) }, worker.job);
    }
    return `${worker.job}${worker.search && worker.search !== this.model.id ? ` (${worker.search})` : ""}`;
  }
}

/**
 * Causes with their counts, in a line.
 * @param {Record<string, number>} found
 */
function causes(found) {
  return Object.entries(found).map(([cause, n]) => `${cause} ${count(n)}`).join(", ");
}
