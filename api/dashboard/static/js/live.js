/**
 * How the link to the service stands, shown in the bar and, while it is down, in a banner.
 * @module
 */
import { fill, h } from "./dom.js";
import { moment } from "./format.js";
import { T } from "./strings.js";
import { button } from "./ui.js";

/**
 * @param {import("./stream.js").LinkState} state
 * @param {number} since
 * @param {() => void} again
 */
export function showLink(state, since, again) {
  const place = document.getElementById("link-state");
  const banner = document.getElementById("banner");
  if (place) {
    fill(place, h("span", { class: ["dot", state === "live" && "live beat", state === "lost" && "lost"] }),
      h("span", {}, T.link[state]));
  }
  if (!banner) return;
  if (state === "lost") {
    if (!banner.childElementCount) {
      fill(banner, h("div", { class: "banner" }, T.linkLost(moment(since)), button(T.reconnect, again)));
    }
  } else banner.replaceChildren();
}

/** Takes the state out of the bar, for the page that is shown is not live. */
export function hideLink() {
  document.getElementById("link-state")?.replaceChildren();
  document.getElementById("banner")?.replaceChildren();
}
