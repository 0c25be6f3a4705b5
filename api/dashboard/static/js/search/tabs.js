/**
 * The tabs below the charts; each is made when first chosen and dropped when left.
 * @module
 */
import { h } from "../dom.js";
import { params, setParams } from "../router.js";
import { T } from "../strings.js";
import { tabs } from "../ui.js";
import { Candidates } from "./candidates.js";

/** @typedef {{element: HTMLElement, close: () => void, update?: () => void}} Panel */

/** @type {Record<string, (model: any, page: any) => Promise<Panel>>} */
const MADE = {
  candidates: async (model, page) => new Candidates(model, page),
  simplest: async (model, page) => new (await import("./simplest.js")).Simplest(model, page),
  primitives: async (model) => new (await import("./primitives.js")).Primitives(model),
  lineage: async (model, page) => new (await import("./lineage.js")).Lineage(model, page),
  population: async (model, page) => new (await import("./population.js")).Population(model, page),
  workers: async (model, page) => new (await import("./workers.js")).Workers(model, page),
  events: async (model, page) => new (await import("./events.js")).Events(model, page),
  config: async (model) => new (await import("./config.js")).Config(model),
  notes: async (model) => new (await import("./notes.js")).Notes(model),
};

export class Tabs {
  /**
   * @param {import("./model.js").Model} model
   * @param {any} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    /** @type {Panel | null} */
    this.panel = null;
    this.name = "";
    this.bar = tabs(Object.keys(MADE).map((value) => ({ value, text: T.tabs[/** @type {"notes"} */ (value)] })), this.wanted(),
      (value) => setParams({ tab: value === "candidates" ? null : value }), T.tabs.label);
    this.host = h("div", { class: "tab-panel", role: "tabpanel", id: "tab-panel" });
    this.element = h("section", { class: "card tabs-card", "aria-label": T.tabs.label }, this.bar.bar, this.host);
    this.update();
  }

  wanted() {
    const name = params().get("tab") ?? "candidates";
    return name in MADE ? name : "candidates";
  }

  close() {
    this.name = "";
    this.panel?.close();
  }

  async update() {
    const wanted = this.wanted();
    if (wanted === this.name) {
      this.panel?.update?.();
      return;
    }
    this.name = wanted;
    this.bar.choose(wanted);
    this.panel?.close();
    this.panel = null;
    this.host.replaceChildren();
    this.host.setAttribute("aria-labelledby", `tab-${wanted}`);
    const made = await MADE[wanted](this.model, this.page);
    if (wanted !== this.name) {
      made.close();
      return;
    }
    this.panel = made;
    this.host.append(made.element);
  }
}
