/**
 * The tray of candidates that are to be compared; kept while the browser is open, across searches.
 * @module
 */
import { fill, h } from "../dom.js";
import { icon } from "../icons.js";
import { href } from "../router.js";
import { keep, recall } from "../storage.js";
import { T } from "../strings.js";
import { button, toast } from "../ui.js";

const KEY = "evosearch.tray";
const MOST = 8;

export class Tray {
  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
    /** @type {string[]} */
    this.names = recall(KEY, "session") ?? [];
    this.element = h("aside", { class: "tray no-print", "aria-label": T.tray.title });
    this.draw();
  }

  /** @param {string} name SEARCH-BIRTH */
  has(name) {
    return this.names.includes(name);
  }

  /** @param {string} name SEARCH-BIRTH */
  toggle(name) {
    if (this.has(name)) this.names = this.names.filter((one) => one !== name);
    else if (this.names.length >= MOST) toast(T.tray.limit);
    else this.names = [...this.names, name];
    this.keep();
  }

  keep() {
    keep(KEY, this.names, "session");
    this.draw();
    this.changed();
  }

  draw() {
    this.element.hidden = !this.names.length;
    fill(this.element, h("strong", {}, T.tray.title),
      h("div", { class: "tray-names" }, this.names.map((name) => h("span", { class: "pill accent" }, name.split("-")[1],
        h("button", { type: "button", class: "pill-cross", "aria-label": `${T.tray.remove} ${name}`, onclick: () => this.toggle(name) }, icon("cross"))))),
      h("a", { class: "button primary", href: href(`compare?${this.names.map((name) => `candidate=${name}`).join("&")}`) }, T.tray.open),
      button(T.tray.clear, () => {
        this.names = [];
        this.keep();
      }, { kind: "plain" }));
  }
}
