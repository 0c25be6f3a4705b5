/**
 * The shell: bar, sign-in, theme, and which page is shown.
 * @module
 */
import { get, onUnauthorised, post, remove } from "./api.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { href, onRoute, route, start } from "./router.js";
import { T } from "./strings.js";
import { choice, choose } from "./theme.js";
import { button, emptyState, problemText, startTips } from "./ui.js";
import { PAGES } from "./pages/index.js";

/** @typedef {{signed_in: boolean, needed: boolean, scope: string | null}} Session */

/** @type {Session} */
export let session = { signed_in: true, needed: false, scope: "write" };

const host = h("main", { id: "main", tabindex: "-1" });
let asking = false;

/** @param {string} name */
function navigation(name) {
  const entries = [["searches", "", T.nav.searches], ["compare", "compare", T.nav.compare],
                   ["layer", "layer", T.nav.layer]];
  return h("nav", { "aria-label": T.nav.label }, entries.map(([key, path, text]) =>
    h("a", { href: href(path), "aria-current": key === name ? "page" : null }, text)));
}

function themeButton() {
  const signs = { auto: "auto", light: "sun", dark: "moon" };
  const made = button("", () => {
    const order = /** @type {const} */ (["auto", "light", "dark"]);
    choose(order[(order.indexOf(choice()) + 1) % 3]);
    show();
  }, { kind: "plain", title: T.theme });
  const show = () => {
    fill(made, icon(signs[choice()]));
    made.setAttribute("aria-label", T.themes[choice()]);
    made.dataset.tip = T.themes[choice()];
  };
  show();
  return made;
}

/** @param {Session} known */
function signOutButton(known) {
  if (!known.needed || !known.signed_in) return null;
  return button(T.signOut, async () => {
    await remove("/session");
    location.reload();
  }, { kind: "plain" });
}

function signIn() {
  if (asking) return;
  asking = true;
  const field = h("input", { class: "input", type: "password", autocomplete: "current-password",
                             id: "token", name: "token", required: true });
  const told = h("p", { class: "field-error", role: "alert" });
  fill(host, h("form", { class: "card sign-in", onsubmit: async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await post("/session", { token: field.value.trim() });
      location.reload();
    } catch (err) {
      told.textContent = problemText(err);
      field.setAttribute("aria-invalid", "true");
      field.focus();
    }
  } },
    h("h1", {}, T.signIn.title), h("p", { class: "quiet" }, T.signIn.help),
    h("div", { class: "field" }, h("label", { for: "token" }, T.signIn.token), field, told),
    h("button", { class: "button primary", type: "submit" }, T.signIn.go)));
  field.focus();
}

async function begin() {
  const bar = h("header", { class: "app-bar no-print" });
  document.body.append(h("a", { class: "skip-link", href: "#main" }, T.skip), bar,
    h("div", { id: "banner", role: "status" }), host);
  startTips();
  const drawBar = (/** @type {string} */ name) => fill(bar,
    h("a", { class: "brand", href: href(""), "aria-label": T.home }, icon("repeat"), h("span", {}, "evosearch")),
    navigation(name), h("div", { class: "spacer" }),
    h("span", { class: "link-state", id: "link-state" }), signOutButton(session), themeButton());
  onRoute(drawBar);
  onUnauthorised(signIn);
  try {
    session = await get("/session");
  } catch {
    // The service cannot be reached now; each page says so itself, and tries again.
  }
  drawBar("");
  if (session.needed && !session.signed_in) {
    signIn();
    return;
  }
  for (const page of PAGES) {
    route(page.pattern, page.name, async (place, match, chosen, signal) => {
      const { open } = await page.load();
      return signal.aborted ? {} : open(place, match, chosen, signal);
    });
  }
  route(/.*/, "", (place) => {
    fill(place, h("div", { class: "page" }, emptyState(T.noPage,
      h("a", { href: href("") }, T.toSearches), "search")));
    return {};
  });
  start(host);
}

begin();
