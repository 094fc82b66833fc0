// One plot: a card with title, legend with the values under the cursor, canvas, and the same as a table.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { button, el, say, table } from "./dom.js";
import { colour, onTheme } from "./theme.js";

const HEIGHT = 168;
const ROWS = 60; // of the table

const plots = new Set();
onTheme(() => plots.forEach((plot) => plot.recolour()));

function translucent(name, part) {
  const [r, g, b] = colour(name).match(/[\d.]+/g).map(Number);
  return `rgba(${r}, ${g}, ${b}, ${part})`;
}

function mixed(name, part) {
  const over = colour("surface").match(/[\d.]+/g).map(Number);
  const own = colour(name).match(/[\d.]+/g).map(Number);
  const [r, g, b] = own.map((value, index) => Math.round(value * part + over[index] * (1 - part)));
  return `rgb(${r}, ${g}, ${b})`;
}

function clock(second, long) {
  const options = long ? { hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  return new Date(second * 1000).toLocaleTimeString([], { hourCycle: "h23", ...options });
}

/** A value on an axis: without zeros behind the point. */
function brief(text) {
  return text.replace(/\.0+(?=\D|$)/, "");
}

const WHOLE = [1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000];
const TIMES = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400];
const BINARY = Array.from({ length: 28 }, (_, power) => 1024 * 2 ** power);

/** Points that no line would show: a value between two gaps. */
function lonely(plot, index) {
  const values = plot.data[index];
  const found = [];
  for (let at = 0; at < values.length; at += 1) {
    if (values[at] != null && values[at - 1] == null && values[at + 1] == null) found.push(at);
  }
  return found;
}

export class Plot {
  /**
   * `series`: [{ label, colour, dash?, fill?, step?, scale? }]; `show`: value to text; `most`: least top of the
   * axis; `stacked`: values lie on each other; `second`: `show` of a second axis (series with scale "z").
   */
  constructor({ title, hint = "", series, show, most = 1, stacked = false, second = null, steps = null, empty = "nothing in this time" }) {
    Object.assign(this, { title, series, show, most, stacked, second, steps, empty });
    this.hidden = new Set();
    this.raw = [[]];
    this.span = [0, 1];
    this.uplot = null;
    this.canvas = el("div", { class: "plot-canvas", role: "img" });
    this.note = el("p", { class: "plot-empty", "aria-hidden": "true" });
    this.time = el("span", { class: "plot-time", "aria-hidden": "true" });
    this.keys = series.map((one, index) => this.#key(one, index));
    this.rows = el("div", { class: "plot-rows", hidden: true, tabindex: "0", role: "region", "aria-label": `${title}, as a table` });
    this.toggle = button("", {
      glyph: "table", label: `${title}: show as a table`, class: "button ghost square small",
      "aria-expanded": "false", run: () => this.#expand(),
    });
    this.node = el("figure", { class: "card plot" },
      el("figcaption", { class: "plot-head" },
        el("h3", { text: title }), hint ? el("span", { class: "hint", text: hint }) : null, this.time, this.toggle),
      el("div", { class: "plot-box" }, this.canvas, this.note),
      el("ul", { class: "plot-keys" }, this.keys.map((key) => key.item)),
      this.rows);
    new ResizeObserver(() => this.#fit()).observe(this.canvas);
    plots.add(this);
  }

  /** Show `columns` (one for each series; null is a gap) over the times `x`, on an axis of `span`. */
  update(x, columns, span) {
    this.raw = [x, ...columns];
    this.span = span;
    if (!this.uplot) this.#make();
    this.uplot?.setData(this.#data());
    this.#values(this.uplot?.cursor.idx);
    if (this.series.length > 4) {
      columns.forEach((column, index) => this.keys[index].toggle.classList.toggle("idle", !column.some(Boolean)));
    }
    const any = columns.some((column) => column.some((value) => value !== null && value !== undefined && value !== 0));
    say(this.note, any ? "" : this.empty);
    const now = this.series.map((one, index) => `${one.label} ${this.#show(index, last(columns[index]))}`);
    this.canvas.setAttribute("aria-label", `${this.title}. ${any ? `Now: ${now.join(", ")}.` : `${this.empty}.`}`);
    if (!this.rows.hidden && !this.rows.matches(":hover, :focus")) this.#fill();
  }

  recolour() {
    this.uplot?.redraw(false);
  }

  #key(one, index) {
    const value = el("span", { class: "plot-value", text: "–" });
    const swatch = el("span", { class: `swatch${one.dash ? " dashed" : ""}`, "aria-hidden": "true" });
    swatch.style.setProperty("--swatch", `var(--${one.colour})`);
    const toggle = el("button", {
      type: "button", class: "plot-key", "aria-pressed": "true", title: `Show or hide ${one.label}`,
      on: { click: () => this.#hide(index) },
    }, swatch, el("span", { text: one.label }), value);
    return { item: el("li", {}, toggle), toggle, value };
  }

  #hide(index) {
    if (!this.hidden.delete(index)) this.hidden.add(index);
    this.keys[index].toggle.setAttribute("aria-pressed", String(!this.hidden.has(index)));
    this.uplot?.setSeries(this.#place(index), { show: !this.hidden.has(index) });
    this.uplot?.setData(this.#data());
  }

  /** Stacked areas are drawn the highest first, so that each covers what is below it. */
  #place(index) {
    return this.stacked ? this.series.length - index : index + 1;
  }

  #data() {
    if (!this.stacked) return this.raw;
    const [x, ...columns] = this.raw;
    const sums = new Array(x.length).fill(0);
    const layers = columns.map((column, index) => {
      if (!this.hidden.has(index)) column.forEach((value, at) => { sums[at] += value || 0; });
      return sums.slice();
    });
    return [x, ...layers.reverse()];
  }

  #show(index, value) {
    if (value === null || value === undefined) return "–";
    return this.series[index].scale === "z" ? this.second(value) : this.show(value);
  }

  #values(at) {
    const [x, ...columns] = this.raw;
    const pointed = at !== null && at !== undefined && at < x.length;
    say(this.time, pointed ? clock(x[at], false) : "");
    columns.forEach((column, index) => {
      say(this.keys[index].value, this.#show(index, pointed ? column[at] : last(column)));
    });
  }

  #expand() {
    this.rows.hidden = !this.rows.hidden;
    this.toggle.setAttribute("aria-expanded", String(!this.rows.hidden));
    if (!this.rows.hidden) this.#fill();
  }

  #fill() {
    const [x, ...columns] = this.raw;
    const rows = [];
    for (let at = x.length - 1; at >= 0 && rows.length < ROWS; at -= 1) {
      rows.push([clock(x[at], false), ...columns.map((column, index) => ({ number: this.#show(index, column[at]) }))]);
    }
    this.rows.replaceChildren(table(this.title, ["time", ...this.series.map((one) => one.label)], rows, { hidden: true }));
  }

  #fit() {
    const width = Math.floor(this.canvas.clientWidth);
    if (!width) return;
    if (!this.uplot) this.#make();
    else if (this.uplot.width !== width) this.uplot.setSize({ width, height: HEIGHT });
  }

  #make() {
    const width = Math.floor(this.canvas.clientWidth);
    if (!width) return; // its panel is hidden; the observer tells when it is not
    const axis = {
      stroke: () => colour("muted"), font: "11px system-ui, sans-serif", ticks: { show: false },
      grid: { stroke: () => colour("grid"), width: 1 },
    };
    const top = (least) => (_, __, high) => [0, Math.max(least, (high ?? 0) * 1.12)];
    const axes = [
      { ...axis, size: 22, space: 64, gap: 4, incrs: TIMES, grid: { show: false }, values: (_, splits) => splits.map((at) => clock(at, at % 60 === 0)) },
      { ...axis, size: 54, space: 34, gap: 4, incrs: this.steps === "whole" ? WHOLE : this.steps === "binary" ? BINARY : undefined, values: (_, splits) => splits.map((value) => brief(this.show(value))) },
    ];
    if (this.second) {
      axes.push({ ...axis, scale: "z", side: 1, size: 50, space: 34, gap: 4, grid: { show: false }, values: (_, splits) => splits.map((value) => this.second(value)) });
    }
    const scales = { x: { time: true, range: () => this.span }, y: { range: top(this.most) } };
    if (this.second) scales.z = { range: top(this.secondMost ?? 1) };
    const drawn = this.series.map((one) => ({
      label: one.label, scale: one.scale ?? "y", width: this.stacked ? 1 : 1.6, dash: one.dash, spanGaps: false,
      stroke: () => colour(one.colour),
      fill: this.stacked ? () => mixed(one.colour, 0.45) : one.fill ? () => translucent(one.colour, 0.14) : undefined,
      paths: one.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
      points: this.stacked ? { show: false } : { show: true, size: 5, fill: () => colour(one.colour), filter: lonely },
    }));
    this.uplot = new uPlot({
      width, height: HEIGHT, padding: [8, this.second ? 0 : 10, 0, 0], legend: { show: false }, axes, scales,
      cursor: { sync: { key: "live" }, drag: { x: false, y: false }, y: false, points: { size: 7 } },
      series: [{}, ...(this.stacked ? drawn.reverse() : drawn)],
      hooks: { setCursor: [(plot) => this.#values(plot.cursor.idx)] },
    }, this.#data(), this.canvas);
  }
}

function last(column) {
  return column.length ? column[column.length - 1] : null;
}
