/**
 * All searches: how each stands, in a line; start, clone, archive, delete.
 * @module
 */
import { Problem, allSearches, get, patch, post, remove } from "../api.js";
import { fill, h, throttled } from "../dom.js";
import { ago, count, moment } from "../format.js";
import { icon } from "../icons.js";
import { hideLink, showLink } from "../live.js";
import { progressBar, sparkline, statePill, wanted } from "../parts.js";
import { go, href, params, setParams } from "../router.js";
import { Still } from "../still.js";
import { EventFeed } from "../stream.js";
import { T } from "../strings.js";
import { ask, button, emptyState, errorState, loadingState, openMenu, toast, toastProblem } from "../ui.js";

/** Searches whose lines one request brings. */
const MOST_LINES = 50;

/** @type {import("../router.js").Open} */
export function open(host) {
  document.title = `${T.searches.title} · evosearch`;
  const page = new Searches(host);
  page.load();
  return { leave: () => page.close(), change: () => page.draw({ asked: true }) };
}

class Searches {
  /** @param {HTMLElement} host */
  constructor(host) {
    /** @type {any[] | null} */
    this.searches = null;
    /** Search -> its line as of an event, or why there is none. @type {Map<string, {event: number, line?: any, failed?: boolean}>} */
    this.lines = new Map();
    /** Search -> its row. @type {Map<string, HTMLElement>} */
    this.rows = new Map();
    /** Searches whose rows are on the screen, or near it. @type {Set<string>} */
    this.near = new Set();
    this.reading = false;
    this.again = false;
    /** @type {Set<string>} */
    this.picked = new Set();
    this.list = h("div", {}, loadingState(6));
    this.still = new Still(this.list);
    const look = throttled(() => this.loadLines(), 100);
    this.views = new IntersectionObserver((seen) => {
      for (const one of seen) {
        const { id } = /** @type {HTMLElement} */ (one.target).dataset;
        if (one.isIntersecting) this.near.add(id ?? "");
        else this.near.delete(id ?? "");
      }
      look();
    }, { rootMargin: "400px" });
    const chosen = params();
    this.filter = h("input", { class: "input search-filter", type: "search", value: chosen.get("q") ?? "",
      placeholder: T.searches.filter, "aria-label": T.searches.filter,
      oninput: () => setParams({ q: this.filter.value }) });
    this.archived = h("input", { type: "checkbox", id: "archived", checked: chosen.has("archived"),
      onchange: () => setParams({ archived: this.archived.checked ? "1" : null }) });
    this.compare = button(T.searches.compare(0), () =>
      go(`compare?${[...this.picked].map((id) => `search=${id}`).join("&")}`), { icon: "compare" });
    this.compare.hidden = true;
    fill(host, h("div", { class: "page" },
      h("div", { class: "page-head" }, h("h1", {}, T.searches.title), h("div", { class: "spacer" }),
        this.compare, this.filter,
        h("label", { class: "check", for: "archived" }, this.archived, T.searches.archivedToo),
        h("a", { class: "button primary", href: href("new") }, icon("plus"), T.searches.fresh)),
      this.list));
    const refresh = throttled(() => this.load(), 3000);
    this.refresh = refresh;
    this.feed = new EventFeed("/events/stream", () => refresh(),
      (state, since) => {
        showLink(state, since, () => this.feed.reconnect());
        if (state === "live" && this.searches) refresh();
      });
    this.clock = setInterval(() => this.ages(), 15_000);
  }

  close() {
    this.feed.close();
    this.refresh.cancel();
    this.views.disconnect();
    clearInterval(this.clock);
    hideLink();
  }

  async load() {
    try {
      this.searches = await allSearches();
      this.draw();
      await this.loadLines();
    } catch (err) {
      if (this.searches === null) fill(this.list, errorState(err, () => this.load()));
    }
  }

  /** Verdicts and sparklines, which cost more than the list: of what is on the screen and has changed. */
  async loadLines() {
    if (this.reading) {
      this.again = true;
      return;
    }
    this.reading = true;
    try {
      const wanted = this.shown().filter((one) => this.near.has(one.id) && this.lines.get(one.id)?.event !== one.last_event);
      for (let at = 0; at < wanted.length; at += MOST_LINES) {
        await this.ask(wanted.slice(at, at + MOST_LINES));
        this.draw();
      }
    } catch {
      // The service is away: the banner says so, and what was read stands until it is back.
    }
    this.reading = false;
    if (this.again) {
      this.again = false;
      await this.loadLines();
    }
  }

  /**
   * Lines of some searches; one that cannot be read leaves the others theirs.
   * @param {any[]} wanted
   */
  async ask(wanted) {
    try {
      const found = (await get("/compare", { search: wanted.map((one) => one.id) })).searches;
      wanted.forEach((one, place) => this.lines.set(one.id, { event: one.last_event, line: found[place] }));
    } catch (err) {
      const away = !(err instanceof Problem) || ![400, 404, 409, 422, 500].includes(err.status);
      if (away) throw err;
      if (wanted.length === 1) this.lines.set(wanted[0].id, { event: wanted[0].last_event, failed: true });
      else {
        const half = Math.ceil(wanted.length / 2);
        await this.ask(wanted.slice(0, half));
        await this.ask(wanted.slice(half));
      }
    }
  }

  /** The searches that the filter lets through, starred ones first. */
  shown() {
    const text = (params().get("q") ?? "").trim().toLowerCase();
    const found = (this.searches ?? []).filter((one) =>
      (params().has("archived") || !one.archived)
      && (!text || [one.title, one.preset, one.id, one.status, ...one.tags].join(" ").toLowerCase().includes(text)));
    return found.sort((a, b) => Number(b.starred) - Number(a.starred));
  }

  /**
   * Rows stay the elements that they are, and of a row what has changed alone is made anew. Under
   * the pointer or the focus nothing moves, unless the reader asked for it.
   * @param {{asked?: boolean}} [options]
   */
  draw({ asked = false } = {}) {
    if (this.searches === null) return;
    const rows = this.shown();
    if (!rows.length) {
      this.forget([]);
      fill(this.list, h("div", { class: "card" }, this.searches.length
        ? emptyState(params().get("q") ? T.searches.noMatch : T.searches.hasArchived)
        : emptyState(T.searches.none, [T.searches.noneHelp, h("p", {},
          h("a", { class: "button primary first-search", href: href("new") }, icon("plus"), T.searches.fresh))], "search")));
      return;
    }
    const ids = rows.map((one) => one.id);
    const same = ids.join() === [...this.rows.keys()].join();
    const free = asked || !this.still.held;
    let whole = same || free;
    const key = /** @type {HTMLElement} */ (document.activeElement)?.dataset?.keep;
    for (const one of rows) {
      const old = this.rows.get(one.id);
      if (old && !renew(old, this.row(one), free)) whole = false;
    }
    if (!same && free) this.arrange(rows);
    if (key && !(document.activeElement?.closest(".search-list"))) /** @type {HTMLElement} */ (this.list.querySelector(`[data-keep="${key}"]`))?.focus();
    if (!whole) this.still.run(() => this.draw());
  }

  /**
   * All rows in their order, the new ones among them.
   * @param {any[]} rows searches
   */
  arrange(rows) {
    const made = new Map(rows.map((one) => [one.id, this.rows.get(one.id) ?? this.row(one)]));
    this.forget([...made.keys()]);
    for (const [id, row] of made) {
      if (!this.rows.has(id)) this.views.observe(row);
    }
    this.rows = made;
    fill(this.list, h("div", { class: "search-list", role: "list" }, ...made.values()));
  }

  /** @param {string[]} kept searches whose rows stay */
  forget(kept) {
    for (const [id, row] of this.rows) {
      if (kept.includes(id)) continue;
      this.views.unobserve(row);
      this.near.delete(id);
      this.rows.delete(id);
    }
  }

  /**
   * The search as the service last told it.
   * @param {string} id
   */
  of(id) {
    return this.searches?.find((one) => one.id === id);
  }

  ages() {
    for (const place of this.list.querySelectorAll("[data-at]")) {
      place.textContent = ago((Date.now() - Number(/** @type {HTMLElement} */ (place).dataset.at)) / 1000);
    }
  }

  /** @param {any} one a search */
  row(one) {
    const { line, failed } = this.lines.get(one.id) ?? {};
    const updated = Date.parse(one.updated_at);
    const pick = h("input", { type: "checkbox", "aria-label": `${T.searches.pick}: ${one.title}`,
      checked: this.picked.has(one.id), data: { keep: `pick-${one.id}` }, onchange: () => {
        if (pick.checked) this.picked.add(one.id);
        else this.picked.delete(one.id);
        this.compare.hidden = this.picked.size < 2;
        fill(this.compare, icon("compare"), T.searches.compare(this.picked.size));
      } });
    const star = h("button", { type: "button", class: ["star", one.starred && "on"], data: { keep: `star-${one.id}`, tip: T.searches.starTip },
      "aria-pressed": String(one.starred), "aria-label": `${T.searches.starTip}: ${one.title}`,
      onclick: () => this.change(one, { starred: !this.of(one.id)?.starred }) }, icon("star"));
    const menu = button("", () => this.menu(menu, this.of(one.id) ?? one), { icon: "dots", kind: "plain",
      title: `${T.searches.actions}: ${one.title}` });
    menu.dataset.keep = `menu-${one.id}`;
    const volume = line ? sparkline(line.sparkline, T.searches.volume, { width: 130, height: 30 }) : null;
    return h("article", { class: ["card", "search-row", one.archived && "archived"], role: "listitem", data: { id: one.id } },
      h("div", { class: "search-marks" }, pick, star),
      h("div", { class: "search-name" },
        h("a", { class: "search-title", href: href(`search/${one.id}`), data: { keep: `open-${one.id}` } }, one.title),
        h("div", { class: "search-sub" }, statePill(one.status),
          one.status === "running" && h("span", { class: "small quiet" }, T.phases[/** @type {"search"} */ (one.phase)] ?? one.phase),
          one.pinned && h("span", { class: "pill accent", data: { tip: T.searches.pinTip } }, icon("pin"), T.searches.pinned),
          one.tags.map((/** @type {string} */ tag) => h("button", { type: "button", class: "pill tag",
            onclick: () => {
              this.filter.value = tag;
              setParams({ q: tag });
            } }, tag)))),
      h("div", { class: "search-verdict" }, line
        ? [h("span", { class: ["verdict-line", line.verdict.outcome] }, line.verdict.text),
           line.verdict.leader?.formula && h("div", { class: "formula small quiet clip" }, line.verdict.leader.formula)]
        : h("span", { class: "quiet small" }, failed ? T.searches.unread : T.searches.reading)),
      h("div", { class: "search-spark", data: { tip: T.searches.volume } }, volume),
      h("div", { class: "search-progress" },
        h("div", { class: "small" }, h("strong", {}, count(one.evaluated)), ` / ${count(wanted(one))} `,
          h("span", { class: "quiet" }, T.searches.evaluated)),
        progressBar(one.evaluated / wanted(one), `${T.searches.progress}: ${one.title}`),
        h("div", { class: "small quiet", data: { tip: moment(one.created_at), at: String(updated) } },
          ago((Date.now() - updated) / 1000))),
      menu);
  }

  /**
   * @param {HTMLElement} anchor
   * @param {any} one
   */
  menu(anchor, one) {
    openMenu(anchor, [
      { text: one.pinned ? T.searches.unpin : T.searches.pin, icon: "pin", run: () => this.change(one, { pinned: !one.pinned }) },
      { text: T.searches.clone, icon: "clone", run: () => this.clone(one) },
      { text: one.archived ? T.searches.unarchive : T.searches.archive, icon: "archive",
        run: () => this.change(one, { archived: !one.archived }) },
      { text: T.searches.remove, icon: "trash", run: () => this.remove(one) },
    ]);
  }

  /**
   * @param {any} one
   * @param {Record<string, boolean>} changes
   */
  async change(one, changes) {
    try {
      const now = await patch(`/searches/${one.id}`, changes);
      this.searches = (this.searches ?? []).map((old) => (old.id === now.id ? now : old));
      this.draw({ asked: true });
    } catch (err) {
      toastProblem(err);
    }
  }

  /** @param {any} one */
  async clone(one) {
    const place = h("input", { class: "input", type: "number", min: "1", max: String(one.last_event),
                               value: String(one.last_event), id: "clone-at", required: true });
    const name = h("input", { class: "input", id: "clone-title", maxlength: "200", value: `${one.title}, copy` });
    const sure = await ask({ title: T.searches.cloneTitle, ok: T.searches.clone, body: [
      h("div", { class: "field" }, h("label", { for: "clone-title" }, T.searches.cloneName), name),
      h("div", { class: "field" }, h("label", { for: "clone-at" }, T.searches.cloneEvent), place,
        h("span", { class: "small quiet" }, T.searches.cloneHelp(one.last_event)))] });
    if (!sure) return;
    try {
      const made = await post(`/searches/${one.id}/clone`, { at_event: Number(place.value), title: name.value });
      toast(T.searches.cloned);
      go(`search/${made.id}`);
    } catch (err) {
      toastProblem(err);
    }
  }

  /** @param {any} one */
  async remove(one) {
    const sure = await ask({ title: T.searches.removeTitle, danger: true, ok: T.searches.remove,
                             body: h("p", {}, T.searches.removeBody(one.title, one.evaluated)) });
    if (!sure) return;
    try {
      await remove(`/searches/${one.id}`);
      this.picked.delete(one.id);
      this.searches = (this.searches ?? []).filter((old) => old.id !== one.id);
      this.draw({ asked: true });
      toast(T.searches.removed(one.title));
      await this.load();
    } catch (err) {
      toastProblem(err);
    }
  }
}

/**
 * Puts what a row should show into the row that is there, cell by cell.
 * @param {HTMLElement} row
 * @param {HTMLElement} wanted
 * @param {boolean} free whether cells under the pointer or the focus may change, too
 * @returns {boolean} whether it shows all of it now
 */
function renew(row, wanted, free) {
  row.className = wanted.className;
  let whole = true;
  [...wanted.children].forEach((cell, place) => {
    const old = row.children[place];
    if (old.isEqualNode(cell)) return;
    if (!free && (old.matches(":hover") || old.contains(document.activeElement))) whole = false;
    else old.replaceWith(cell);
  });
  return whole;
}
