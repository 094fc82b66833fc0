// The first panel: how the manager is, now and lately.

import { el, say, table } from "./dom.js";
import { CLASSES, OUTCOMES } from "./feed.js";
import { bytes, count, percent, rate, seconds } from "./format.js";
import { Plot } from "./plot.js";
import { Tile } from "./tile.js";

const RANGES = { "5 min": 1, "24 h": 60 };
const SPAN = { 1: 300, 60: 86400 }; // seconds
const LEAST = { 1: 60, 60: 3600 };

export class LivePanel {
  constructor(feed) {
    this.feed = feed;
    this.visible = false;
    this.tiles = tiles();
    this.plots = plots();
    this.tables = el("div", { class: "grid two" });
    this.quantile = "p99";
    this.panel = el("section", {},
      el("div", { class: "panel-head" },
        el("h2", { text: "Live" }), this.#ranges(),
        segmented("Waits shown as", ["p50", "p99", "mean"], "p99", (name) => { this.quantile = name; this.draw(); })),
      el("div", { class: "tiles" }, Object.values(this.tiles).map((tile) => tile.node)),
      el("div", { class: "grid two" }, Object.values(this.plots).map((plot) => plot.node)),
      this.tables);
    feed.addEventListener("trends", () => this.draw());
    feed.addEventListener("statistics", () => this.#figures());
  }

  show() {
    this.visible = true;
    this.draw();
    this.#figures();
  }

  hide() {
    this.visible = false;
  }

  #ranges() {
    return segmented("Time shown", Object.keys(RANGES), "5 min", (name) => {
      this.feed.show(RANGES[name]);
      this.draw();
    });
  }

  draw() {
    const { step } = this.feed;
    const rows = this.feed.trends.get(step);
    if (!this.visible || !rows) return;
    const now = Date.now() / 1000;
    // A manager that has not run for long is shown larger.
    const begun = Math.min(rows.at[0] ?? now, now - LEAST[step]);
    const span = [Math.max(now - SPAN[step], begun), now];
    const per = (column) => (step === 1 ? column : column.map((value) => value / step));
    const { plots: p } = this;
    p.throughput.update(rows.at, OUTCOMES.map((name) => per(rows.outcomes[name])), span);
    p.wait.update(rows.at, CLASSES.map((name) => rows.wait[name][this.quantile]), span);
    p.queue.update(rows.at, [rows.waiting, rows.retrying], span);
    p.slots.update(rows.at, [rows.slots_in_use, rows.limit], span);
    p.process.update(rows.at, [rows.memory, rows.cpu.map((value) => value / step)], span);
    const sampled = (plot, ...picks) => {
      const [at, ...columns] = this.feed.samples.columns(step, ...picks);
      plot.update(at, columns, span);
    };
    sampled(p.handling, ...CLASSES.map((name) => (row) => row.handling[name] ?? null));
    sampled(p.cache, (row) => row.hit);
    sampled(p.lag, (row) => row.lag);
    if (step === 1) this.#sparks(rows);
  }

  #sparks(rows) {
    const { tiles: t } = this;
    const tail = (column) => column.slice(-90);
    t.rate.spark(tail(rows.outcomes.replied));
    t.waiting.spark(tail(rows.waiting));
    t.slots.spark(tail(rows.slots_in_use));
    t.wait.spark(tail(rows.wait.NORMAL.p99).map((value) => value ?? 0));
  }

  #figures() {
    const s = this.feed.statistics;
    if (!this.visible || !s) return;
    const { tiles: t } = this;
    t.rate.set(rate(s.rates.last_10s), "/s", `${count(s.received)} received, ${count(s.outcomes.replied)} answered`);
    const oldest = Math.max(0, ...CLASSES.map((name) => s.queues[name]?.oldest ?? 0));
    t.waiting.set(count(s.waiting), "", s.waiting ? `the oldest for ${seconds(oldest)}` : "nobody waits", oldest > 30 ? "warn" : "");
    const used = s.slots_in_use ?? s.running;
    t.slots.set(String(used), `of ${s.limit}`, `${s.retrying} retrying, peak ${s.peak_running}`, used >= s.limit ? "warn" : "");
    const worst = ["NORMAL", "HIGH", "CRITICAL", "LOW"].find((name) => s.wait[name]?.count);
    t.wait.set(worst ? seconds(s.wait[worst].p99) : "–", "", worst ? `${worst}; half below ${seconds(s.wait[worst].p50)}` : "nothing was handled yet");
    const ended = OUTCOMES.reduce((sum, name) => sum + (s.outcomes[name] ?? 0), 0) - (s.outcomes.rejected ?? 0);
    const good = ended ? (s.outcomes.replied + s.outcomes.merged) / ended : null;
    t.success.set(percent(good), "", `${count(s.outcomes.failed)} failed, ${count(s.outcomes.rejected)} refused`, good !== null && good < 0.9 ? "bad" : "");
    const lag = s.storage?.lag;
    const failing = s.storage?.failing;
    t.storage.set(failing ? "fails" : lag === undefined ? "memory" : seconds(lag), "", failing || lag === undefined
      ? (failing ? "new messages are refused" : "nothing outlives the process") : `behind; ${count(s.storage.pending)} to write`, failing ? "bad" : "");
    this.#tables(s);
  }

  #tables(s) {
    const number = (value) => ({ number: value });
    const quantiles = (figures) => CLASSES.map((name) => {
      const f = figures?.[name] ?? { count: 0 };
      const shown = (value) => number(f.count ? seconds(value) : "–");
      return [el("span", { class: `class-name ${name.toLowerCase()}`, text: name }), number(count(f.count)), shown(f.p50), shown(f.p90), shown(f.p99), shown(f.max)];
    });
    const head = ["class", "turns", "p50", "p90", "p99", "longest"];
    const outcomes = OUTCOMES.map((name) => [el("span", { class: `outcome-name ${name}`, text: name }), number(count(s.outcomes[name] ?? 0))]);
    const reasons = Object.entries(s.rejected ?? {}).filter(([, value]) => value);
    const routes = Object.entries(s.routes ?? {}).map(([name, r]) => [
      name, number(count(Object.values(r.outcomes).reduce((a, b) => a + b, 0))), number(count(r.failed_attempts)),
      number(count(r.timeouts)), number(seconds(r.wait.p99)), number(seconds(r.service.p99)),
    ]);
    const sessions = s.sessions;
    const channels = (s.channels?.top ?? []).map(([name, value]) => [name || "(none)", number(count(value))]);
    this.tables.replaceChildren(
      card("Waiting before the start", table("Seconds waited, by class, since the start", head, quantiles(s.wait), { hidden: true })),
      card("Being handled", table("Seconds handled, by class, since the start", head, quantiles(s.service), { hidden: true })),
      card("Outcomes", table("Messages by outcome since the start", ["outcome", "messages"], outcomes, { hidden: true }),
        reasons.length ? table("Refused, by reason", ["reason", "messages"], reasons.map(([name, value]) => [name.replaceAll("_", " "), number(count(value))])) : null),
      card("Routes", table("Routes since the start", ["route", "turns", "failed attempts", "time-outs", "wait p99", "handling p99"], routes, { hidden: true }),
        channels.length ? table("Messages by channel", ["channel", "messages"], channels) : null,
        sessions ? el("p", { class: "hint", text: `${sessions.active} of ${sessions.max} sessions active, ${sessions.idle} idle; up for ${seconds(s.uptime)}.` }) : null));
  }
}

function card(title, ...inside) {
  return el("section", { class: "card" }, el("h3", { text: title }), el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title }, inside));
}

/** A few choices of which one counts. */
export function segmented(label, names, chosen, pick) {
  const group = el("div", { class: "segmented", role: "group", "aria-label": label });
  const buttons = names.map((name) => el("button", {
    type: "button", "aria-pressed": String(name === chosen), text: name,
    on: { click: () => {
      buttons.forEach((one) => one.setAttribute("aria-pressed", String(one.textContent === name)));
      pick(name);
    } },
  }));
  group.append(...buttons);
  return group;
}

function tiles() {
  return {
    rate: new Tile("Throughput", "replied"), waiting: new Tile("Waiting", "normal"), slots: new Tile("Slots in use", "accent"),
    wait: new Tile("Wait, p99", "high"), success: new Tile("Answered well", null), storage: new Tile("Storage lag", null),
  };
}

function plots() {
  const classes = CLASSES.map((name) => ({ label: name, colour: name.toLowerCase() }));
  const since = "since this page was opened";
  const process = new Plot({
    title: "Memory and processor", show: bytes, steps: "binary", second: percent, most: 32 * 1024 * 1024,
    series: [{ label: "memory", colour: "accent", fill: true }, { label: "processor", colour: "high", scale: "z" }],
  });
  return {
    throughput: new Plot({ title: "Throughput", hint: "outcomes per second", stacked: true, show: rate,
      series: OUTCOMES.map((name) => ({ label: name, colour: name })) }),
    wait: new Plot({ title: "Wait before the start", hint: "by class", show: seconds, most: 0.01, series: classes, empty: "no turn began in this time" }),
    queue: new Plot({ title: "Queue", hint: "messages without an outcome", show: count, steps: "whole", most: 4, empty: "nobody waited in this time",
      series: [{ label: "waiting", colour: "normal", fill: true, step: true }, { label: "retrying", colour: "high", step: true }] }),
    slots: new Plot({ title: "Slots", hint: "turns that run", show: count, steps: "whole", most: 4,
      series: [{ label: "in use", colour: "accent", fill: true, step: true }, { label: "limit", colour: "muted", dash: [5, 4], step: true }] }),
    handling: new Plot({ title: "Handling time", hint: `mean, ${since}`, show: seconds, most: 0.01, series: classes, empty: "nothing was handled" }),
    process,
    cache: new Plot({ title: "Cache hit rate", hint: since, show: percent, most: 1, empty: "nobody asked the cache",
      series: [{ label: "hits", colour: "replied", fill: true }] }),
    lag: new Plot({ title: "Storage lag", hint: since, show: seconds, most: 0.01, empty: "nothing is behind",
      series: [{ label: "lag", colour: "expired", fill: true }] }),
  };
}
