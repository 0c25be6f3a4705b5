/**
 * Who evaluates what, and which failures there were.
 * @module
 */
import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { ago, duration, exactMoment } from "../format.js";
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
    this.off = model.on("workers", () => this.draw());
    model.load("workers");
    this.loadFailures();
  }

  close() {
    this.off();
  }

  async loadFailures() {
    try {
      const [failed, lost] = await Promise.all([
        get(`${this.model.path}/candidates`, { state: ["failed", "quarantined"], limit: 200 }),
        get(`${this.model.path}/events`, { newest: true, limit: 500 })]);
      /** @type {Map<string, {count: number, last: string, births: number[]}>} */
      const causes = new Map();
      const add = (/** @type {string} */ cause, /** @type {string} */ at, /** @type {number | null} */ birth) => {
        const one = causes.get(cause) ?? { count: 0, last: at, births: [] };
        one.count += 1;
        if (at > one.last) one.last = at;
        if (birth !== null) one.births.push(birth);
        causes.set(cause, one);
      };
      for (const one of failed.candidates) add(one.failure_cause ?? "?", one.finished_at ?? one.queued_at, one.birth);
      for (const one of lost.events) if (one.kind === "job_lost") add(one.event.failure.cause, one.at, null);
      if (!causes.size) {
        fill(this.failures, h("p", { class: "quiet" }, T.workers.noFailures));
        return;
      }
      fill(this.failures, plainTable([{ title: T.events.detail }, { title: "n", align: "right" }, { title: T.events.time }, { title: T.workers.candidates }],
        [...causes].map(([cause, one]) => [cause, one.count, exactMoment(one.last), one.births.slice(0, 12).map((birth) => [
          h("button", { type: "button", class: "linklike", onclick: () => this.page.openDrawer(birth) }, birth), " "])]), T.workers.failures));
    } catch (err) {
      fill(this.failures, errorState(err, () => this.loadFailures()));
    }
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
      one.workers.length ? plainTable([{ title: T.workers.worker }, { title: T.workers.state }, { title: T.workers.evaluates }, { title: T.workers.since, align: "right" }],
        one.workers.map((/** @type {any} */ worker) => [worker.name, worker.state, this.job(worker), duration(worker.seconds)]), one.host) : null)));
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
