// Light, dark, or as the system has it; remembered.

import { button, icon } from "./dom.js";

const ORDER = ["auto", "light", "dark"];
const GLYPH = { auto: "auto", light: "sun", dark: "moon" };
const WORDS = { auto: "as the system", light: "light", dark: "dark" };
const listeners = new Set();

export function onTheme(listener) {
  listeners.add(listener);
}

export function themeButton() {
  const root = document.documentElement;
  const toggle = button("", { class: "button ghost square", run: next });
  function show() {
    const theme = root.dataset.theme;
    const label = `Theme: ${WORDS[theme]}. Change`;
    toggle.replaceChildren(icon(GLYPH[theme]));
    toggle.setAttribute("aria-label", label);
    toggle.title = label;
  }
  function next() {
    const theme = ORDER[(ORDER.indexOf(root.dataset.theme) + 1) % ORDER.length];
    root.dataset.theme = theme;
    try {
      localStorage.setItem("ccm.theme", theme);
    } catch {
      // Not remembered then; it still changes.
    }
    show();
    for (const listener of listeners) listener();
  }
  if (!ORDER.includes(root.dataset.theme)) root.dataset.theme = "auto";
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const listener of listeners) listener();
  });
  show();
  return toggle;
}

const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);

/** What a colour of the style sheet is at present, for canvases. */
export function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}
