// Runs before the first paint, so that no light page flashes at those who chose the dark one.
(function () {
  /** @type {string | null} */
  let kept = null;
  try {
    kept = JSON.parse(localStorage.getItem("evosearch.theme") ?? "null");
  } catch {
    // Storage may be forbidden; the system's choice counts then.
  }
  const dark = kept === "dark" || (kept !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
