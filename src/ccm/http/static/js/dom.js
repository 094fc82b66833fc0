// The only way this page makes elements. Text enters as text nodes: what people wrote is never markup.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  live: "M3 12h4l3-8 4 16 3-8h4",
  chat: "M4 6a2 2 0 0 1 2-2h12a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-7l-5 4v-4H6a2 2 0 0 1-2-2z",
  conversations: "M4 6h16M4 12h16M4 18h10",
  letters: "M3 7l9 6 9-6M5 5h14a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2z",
  alerts: "M12 4a5 5 0 0 0-5 5c0 5-2 6-2 7h14c0-1-2-2-2-7a5 5 0 0 0-5-5zM10 20h4",
  services: "M4 5h16v5H4zM4 14h16v5H4zM8 7.5h.01M8 16.5h.01",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 4.5v5M8 14.5v5",
  send: "M5 12h14M13 6l6 6-6 6",
  stop: "M7 7h10v10H7z",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  plus: "M12 5v14M5 12h14",
  back: "M19 12H5M11 6l-6 6 6 6",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5L20 20",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.6l1 1M17.4 17.4l1 1M5.6 18.4l1-1M17.4 6.6l1-1",
  moon: "M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5z",
  auto: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 3v18M12 7h5M12 11h8M12 15h7",
  table: "M4 5h16v14H4zM4 10h16M4 14.5h16M10 10v9",
  replay: "M4 12a8 8 0 1 0 2.5-5.8M4 4v4h4",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12",
  pause: "M9 6v12M15 6v12",
  play: "M8 5l11 7-11 7z",
  hand: "M4 19c0-4 3-6 7-6s7 2 7 6M11 10a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM17 5h5M19.5 2.5v5",
  key: "M14 10a4 4 0 1 0-3.5 4l1.5-1.5 2 2 2-2 1.5 1.5 2.5-2.5-4.3-1.6",
  check: "M5 12.5l4.5 4.5L19 7.5",
};

/** An element. `props`: attributes; `on`: listeners; `class`, `text`, `data`; booleans switch attributes. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
    else if (name === "text") node.textContent = value;
    else if (name === "class") node.className = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "value" && "value" in node) node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An icon; it is decoration, the words beside it (or the label of its button) say what it means. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon, words, or both (`label` names one that has only an icon). */
export function button(words, { glyph, label, run, ...props } = {}) {
  const parts = [glyph ? icon(glyph) : null, words ? el("span", { text: words }) : null];
  const more = label ? { "aria-label": label, title: label } : {};
  return el("button", { type: "button", class: "button", ...more, ...props, on: { click: run } }, parts);
}

/** Replace what is in `node`, unless it says the same already (a screen reader would read it again). */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A table from header words and rows of cells (strings, numbers or nodes). Numbers stand to the right. */
export function table(caption, head, rows, { hidden = false } = {}) {
  const cell = (value, index) => {
    const number = typeof value === "object" && value !== null && "number" in value;
    const inside = number ? value.number : value;
    const props = { class: number ? "number" : null, "data-label": head[index] };
    return index === 0 ? el("th", { scope: "row", ...props }, inside) : el("td", props, inside);
  };
  return el("table", { class: "table" },
    el("caption", { class: hidden ? "sr-only" : null, text: caption }),
    el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col", text })))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell)))));
}

/** A share from 0 to 1 as a bar, named for those who do not see it. */
export function meter(share, label, { warn = 0.8, bad = 1.0 } = {}) {
  const level = share >= bad ? "bad" : share >= warn ? "warn" : "good";
  const inner = el("span", { class: "meter-fill" });
  inner.style.inlineSize = `${Math.round(100 * Math.min(1, Math.max(0, share)))}%`;
  return el("span", { class: "meter", role: "img", "aria-label": label, data: { level } }, inner);
}

/** A question that is answered by yes or no; resolves to a boolean. */
export function confirm(title, text, yes, { danger = true } = {}) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { class: "dialog", "aria-labelledby": "confirm-title" });
    const done = (answer) => { dialog.close(); dialog.remove(); resolve(answer); };
    dialog.append(
      el("h2", { id: "confirm-title", text: title }), el("p", { text }),
      el("div", { class: "row end" },
        button("Cancel", { run: () => done(false) }),
        button(yes, { class: danger ? "button danger" : "button primary", run: () => done(true) })));
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); done(false); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A short note that goes by itself; it is read out too. */
export function toast(text, level = "info") {
  const note = el("p", { class: "toast", data: { level }, text });
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), level === "bad" ? 8000 : 4000);
}

/** Tell those who listen instead of looking. */
export function announce(text, { urgent = false } = {}) {
  const region = document.getElementById(urgent ? "announcer-urgent" : "announcer");
  region.textContent = "";
  region.textContent = text;
}
