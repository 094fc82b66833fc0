// One figure that matters, large, with a line of words and a trace of the last minute and a half.

import { el, say } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

export class Tile {
  constructor(title, colour) {
    this.value = el("span", { class: "tile-value", text: "–" });
    this.unit = el("span", { class: "tile-unit" });
    this.words = el("span", { class: "tile-words" });
    this.line = null;
    const parts = [
      el("span", { class: "tile-title", text: title }), el("span", { class: "tile-row" }, this.value, this.unit), this.words,
    ];
    this.node = el("div", { class: "card tile", role: "group", "aria-label": title }, parts);
    if (colour) this.node.append(this.#trace(colour));
  }

  set(value, unit, words, level = "") {
    say(this.value, value);
    say(this.unit, unit);
    say(this.words, words);
    this.node.dataset.level = level;
  }

  /** Draw the last values, the newest to the right. */
  spark(values) {
    const high = Math.max(...values, 1e-9);
    const step = 100 / Math.max(1, values.length - 1);
    const points = values.map((value, at) => `${(at * step).toFixed(1)},${(23 - 21 * (value / high)).toFixed(1)}`);
    this.line.setAttribute("points", points.join(" "));
    this.area.setAttribute("points", values.length ? `0,24 ${points.join(" ")} 100,24` : "");
  }

  #trace(colour) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 24");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.setAttribute("class", "spark");
    svg.style.setProperty("--spark", `var(--${colour})`);
    this.area = document.createElementNS(SVG, "polygon");
    this.line = document.createElementNS(SVG, "polyline");
    svg.append(this.area, this.line);
    return svg;
  }
}
