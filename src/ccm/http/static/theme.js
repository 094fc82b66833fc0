// Runs before the first paint, so that a remembered theme does not flash. Not a module for that reason.
(() => {
  let theme = "auto";
  try {
    theme = localStorage.getItem("ccm.theme") || "auto";
  } catch {
    // Storage may be switched off; then the system's preference counts.
  }
  document.documentElement.dataset.theme = theme;
})();
