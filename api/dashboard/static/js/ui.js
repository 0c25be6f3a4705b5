/**
 * Parts that pages share: tips, menus, toasts, dialogs, tabs, switches, states of a view.
 * @module
 */
import { Problem } from "./api.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { T, WORDS } from "./strings.js";

/* ---- tips: one line about a word or a control, by pointer or by focus ---- */

/** @type {HTMLElement | null} */
let tip = null;

/**
 * @param {Element} target
 * @param {string} text
 */
function showTip(target, text) {
  hideTip();
  tip = h("div", { class: "tip", role: "tooltip", id: "tip" }, text);
  document.body.append(/** @type {Node} */ (tip));
  const box = target.getBoundingClientRect();
  const mine = /** @type {HTMLElement} */ (tip).getBoundingClientRect();
  const left = Math.max(8, Math.min(box.left + box.width / 2 - mine.width / 2,
                                    innerWidth - mine.width - 8));
  const below = box.bottom + 7;
  const top = below + mine.height > innerHeight - 8 ? box.top - mine.height - 7 : below;
  /** @type {HTMLElement} */ (tip).style.left = `${left}px`;
  /** @type {HTMLElement} */ (tip).style.top = `${top}px`;
  target.setAttribute("aria-describedby", "tip");
}

export function hideTip() {
  if (tip) document.querySelector('[aria-describedby="tip"]')?.removeAttribute("aria-describedby");
  tip?.remove();
  tip = null;
}

/** Elements with `data-tip` get theirs; call once. */
export function startTips() {
  /** @type {any} */
  let waiting;
  const over = (/** @type {Event} */ event) => {
    const target = /** @type {Element} */ (event.target).closest?.("[data-tip]");
    clearTimeout(waiting);
    if (!(target instanceof HTMLElement)) {
      hideTip();
      return;
    }
    waiting = setTimeout(() => {
      if (target.isConnected && target.dataset.tip) showTip(target, target.dataset.tip);
    }, event.type === "focusin" ? 0 : 280);
  };
  document.addEventListener("pointerover", over);
  document.addEventListener("focusin", (event) => {
    if (/** @type {Element} */ (event.target).matches?.(":focus-visible")) over(event);
  });
  for (const kind of ["pointerdown", "keydown", "scroll", "focusout"]) {
    document.addEventListener(kind, () => {
      clearTimeout(waiting);
      hideTip();
    }, { capture: true, passive: true });
  }
}

/**
 * A word of the house with its meaning on hover and focus.
 * @param {string} key of WORDS
 * @param {string} [text] as it stands here
 * @returns {HTMLElement}
 */
export function word(key, text) {
  return h("span", { class: "word", tabindex: "0", data: { tip: WORDS[key] ?? key } }, text ?? key);
}

/* ---- buttons, switches, menus ---- */

/**
 * @param {string} text
 * @param {(event: MouseEvent) => void} click
 * @param {{icon?: string, kind?: string, tip?: string, title?: string, id?: string,
 *          disabled?: boolean}} [options]
 * @returns {HTMLButtonElement}
 */
export function button(text, click, options = {}) {
  const bare = !text;
  return h("button", {
    type: "button", class: ["button", options.kind, bare && "icon"], onclick: click, id: options.id,
    disabled: options.disabled, "aria-label": bare ? (options.title ?? options.tip) : null,
    data: options.tip ? { tip: options.tip } : {},
  }, options.icon && icon(options.icon), text);
}

/**
 * One of several, side by side.
 * @param {{value: string, text: string, tip?: string}[]} entries
 * @param {string} chosen
 * @param {(value: string) => void} change
 * @param {string} label
 * @returns {HTMLElement}
 */
export function segments(entries, chosen, change, label) {
  const made = h("div", { class: "segments", role: "group", "aria-label": label });
  for (const entry of entries) {
    made.append(h("button", {
      type: "button", "aria-pressed": String(entry.value === chosen), data: {
        value: entry.value, ...(entry.tip ? { tip: entry.tip } : {}),
      },
      onclick: () => {
        for (const one of made.children) {
          one.setAttribute("aria-pressed", String(one.dataset.value === entry.value));
        }
        change(entry.value);
      },
    }, entry.text));
  }
  return made;
}

/** @type {(() => void) | null} */
let closeMenu = null;

/**
 * Opens a menu below the element; Esc, a click elsewhere or a choice closes it.
 * @param {HTMLElement} anchor
 * @param {({text: string, run?: () => void, href?: string, icon?: string} | Node | null)[]} entries
 */
export function openMenu(anchor, entries) {
  closeMenu?.();
  const menu = h("div", { class: "menu", role: "menu" });
  for (const entry of entries) {
    if (!entry) continue;
    if (entry instanceof Node) {
      menu.append(entry);
      continue;
    }
    const parts = [entry.icon && icon(entry.icon), entry.text];
    menu.append(entry.href
      ? h("a", { role: "menuitem", href: entry.href, onclick: () => close(), download: "" }, parts)
      : h("button", { type: "button", role: "menuitem", onclick: () => {
          close();
          entry.run?.();
        } }, parts));
  }
  const outside = (/** @type {Event} */ event) => {
    if (!menu.contains(/** @type {Node} */ (event.target))) close();
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    const items = [...menu.querySelectorAll("button, a")];
    const place = items.indexOf(/** @type {any} */ (document.activeElement));
    if (event.key === "Escape" || event.key === "Tab") {
      event.stopPropagation();
      close();
      anchor.focus();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      /** @type {HTMLElement} */ (items[(place + step + items.length) % items.length])?.focus();
    }
  };
  function close() {
    menu.remove();
    anchor.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
    closeMenu = null;
  }
  closeMenu = close;
  menu.addEventListener("keydown", keys);
  document.addEventListener("pointerdown", outside, true);
  (anchor.closest("dialog") ?? document.body).append(menu);
  const box = anchor.getBoundingClientRect();
  const mine = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(8, Math.min(box.right - mine.width, innerWidth - mine.width - 8))}px`;
  const below = box.bottom + 4;
  menu.style.top = `${below + mine.height > innerHeight ? Math.max(8, box.top - mine.height - 4) : below}px`;
  anchor.setAttribute("aria-expanded", "true");
  menu.querySelector("button, a")?.focus();
}

/* ---- toasts and dialogs ---- */

/**
 * @param {string} text
 * @param {{bad?: boolean, action?: {text: string, run: () => void}}} [options]
 */
export function toast(text, options = {}) {
  let host = document.querySelector(".toasts");
  if (!host) {
    host = h("div", { class: "toasts", role: "status", "aria-live": "polite" });
    document.body.append(/** @type {Node} */ (host));
  }
  const made = h("div", { class: ["toast", options.bad && "bad-toast"] },
    h("span", {}, text),
    options.action && button(options.action.text, () => {
      made.remove();
      options.action?.run();
    }, { kind: "plain" }));
  /** @type {Element} */ (host).append(made);
  setTimeout(() => made.remove(), options.bad ? 9000 : 5000);
}

/**
 * Says what went wrong, in the service's own words.
 * @param {unknown} err
 */
export function toastProblem(err) {
  if (err instanceof DOMException && err.name === "AbortError") return;
  toast(problemText(err), { bad: true });
}

/**
 * @param {unknown} err
 * @returns {string}
 */
export function problemText(err) {
  if (err instanceof Problem && err.status === 0) return T.unreachable;
  if (err instanceof Problem) return err.id ? `${err.message} (${T.errorId} ${err.id})` : err.message;
  return String(err);
}

/**
 * Asks before something that cannot be undone, or for a value.
 * @param {{title: string, body?: any, ok: string, danger?: boolean}} options
 * @returns {Promise<boolean>}
 */
export function ask(options) {
  return new Promise((answer) => {
    const done = (/** @type {boolean} */ value) => {
      dialog.close();
      dialog.remove();
      answer(value);
    };
    const dialog = h("dialog", { "aria-label": options.title },
      h("form", { method: "dialog", onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        done(true);
      } },
        h("h2", {}, options.title),
        options.body,
        h("div", { class: "actions" },
          button(T.cancel, () => done(false)),
          h("button", { type: "submit", class: ["button", options.danger ? "danger" : "primary"] },
            options.ok))));
    dialog.addEventListener("cancel", (/** @type {Event} */ event) => {
      event.preventDefault();
      done(false);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/* ---- states of a view ---- */

/**
 * @param {string} title
 * @param {any} [body]
 * @param {string} [sign] name of an icon
 * @returns {HTMLElement}
 */
export function emptyState(title, body, sign) {
  return h("div", { class: "state" }, sign && icon(sign), h("strong", {}, title), body && h("div", {}, body));
}

/**
 * @param {unknown} err
 * @param {() => void} [again]
 * @returns {HTMLElement}
 */
export function errorState(err, again) {
  return h("div", { class: "state", role: "alert" }, icon("warn"),
    h("strong", {}, T.didNotLoad), h("div", {}, problemText(err)),
    again && button(T.tryAgain, again));
}

/**
 * @param {number} [lines]
 * @returns {HTMLElement}
 */
export function loadingState(lines = 3) {
  const made = h("div", { class: "state", role: "status", "aria-busy": "true", "aria-label": T.loading });
  made.style.alignItems = "stretch";
  for (let i = 0; i < lines; i++) {
    made.append(h("div", { class: "skeleton", style: { height: "13px", width: `${92 - 17 * (i % 3)}%` } }));
  }
  return made;
}

/** Box -> what it was last to be filled for. @type {WeakMap<HTMLElement, object>} */
const fillings = new WeakMap();

/**
 * Fills a box with what `load` makes, through its loading and error states; an answer that a later
 * question has overtaken is dropped.
 * @param {HTMLElement} box
 * @param {() => Promise<any>} load returns the children
 * @param {number} [lines]
 */
export async function loadInto(box, load, lines = 3) {
  const mine = {};
  fillings.set(box, mine);
  fill(box, loadingState(lines));
  try {
    const made = await load();
    if (fillings.get(box) === mine) fill(box, made);
  } catch (err) {
    if (fillings.get(box) === mine) fill(box, errorState(err, () => loadInto(box, load, lines)));
  }
}

/**
 * Tabs after the pattern of the WAI: arrows move, the chosen one is in `chosen`.
 * @param {{value: string, text: string, tip?: string}[]} entries
 * @param {string} chosen
 * @param {(value: string) => void} change
 * @param {string} label
 */
export function tabs(entries, chosen, change, label) {
  const bar = h("div", { class: "tabs", role: "tablist", "aria-label": label });
  /** @type {Map<string, HTMLElement>} */
  const made = new Map();
  const choose = (/** @type {string} */ value, /** @type {boolean} */ quiet = false) => {
    for (const [name, tab] of made) {
      tab.setAttribute("aria-selected", String(name === value));
      tab.tabIndex = name === value ? 0 : -1;
    }
    if (!quiet) change(value);
  };
  for (const entry of entries) {
    const tab = h("button", { type: "button", role: "tab", id: `tab-${entry.value}`,
                              "aria-controls": "tab-panel", onclick: () => choose(entry.value),
                              data: entry.tip ? { tip: entry.tip } : {} }, entry.text);
    made.set(entry.value, tab);
    bar.append(tab);
  }
  bar.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const all = [...made.values()];
    const place = all.indexOf(/** @type {any} */ (document.activeElement));
    const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const target = all[(next + all.length) % all.length];
    target.focus();
    target.click();
  });
  choose(chosen, true);
  return { bar, choose: (/** @type {string} */ value) => choose(value, true), tab: (/** @type {string} */ v) => made.get(v) };
}
