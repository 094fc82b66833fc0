// Services and providers: what works behind the turns, and how full it is.

import { el, meter, table } from "./dom.js";
import { count, percent, seconds } from "./format.js";

export class ServicesPanel {
  constructor(feed) {
    this.feed = feed;
    this.visible = false;
    this.services = el("div", { class: "grid three" });
    this.none = el("p", { class: "empty", hidden: true, text: "This manager has no services." });
    this.providers = el("div", {});
    this.panel = el("section", {},
      el("div", { class: "panel-head" }, el("h2", { text: "Services" }),
        el("p", { class: "hint", text: "Background work with queues of its own, and the limits of providers." })),
      this.services, this.none, this.providers);
    feed.addEventListener("statistics", () => this.#draw());
  }

  show() {
    this.visible = true;
    this.#draw();
  }

  hide() {
    this.visible = false;
  }

  #draw() {
    const s = this.feed.statistics;
    if (!this.visible || !s) return;
    const services = Object.entries(s.services ?? {});
    this.none.hidden = services.length > 0;
    this.services.replaceChildren(...services.map(([name, figures]) => service(name, figures)));
    const providers = Object.entries(s.providers ?? {});
    this.providers.replaceChildren(...(providers.length ? [providerTable(providers)] : []));
  }
}

function line(label, value, bar = null) {
  return el("div", { class: "fact" }, el("dt", { text: label }), el("dd", {}, value), bar);
}

function service(name, f) {
  const depth = f.depth ?? f.waiting + f.retrying + f.senders;
  const fullness = f.fullness ?? depth / f.capacity;
  const level = f.is_bottleneck ? "bad" : depth ? "warn" : "good";
  const words = { bad: "holds others up", warn: "busy", good: f.processing ? "at work" : "idle" }[level];
  return el("section", { class: "card service", data: { level } },
    el("div", { class: "service-head" }, el("h3", { text: name }), el("span", { class: `tag ${level}`, text: words })),
    el("dl", { class: "facts" },
      line("queue", `${depth} of ${f.capacity}`, meter(fullness, `queue ${percent(fullness)} full`, { warn: 0.5, bad: 0.9 })),
      line("at work", `${f.processing} of ${f.concurrency}`, meter(f.utilisation, `${percent(f.utilisation)} busy in the last minute`, { warn: 0.9, bad: 1.01 })),
      line("done", count(f.done)), line("failed for good", count(f.dead)), line("retries", `${count(f.retries)} of ${count(f.errors)} errors`),
      line("wait p99", seconds(f.wait?.count ? f.wait.p99 : null)), line("time p99", seconds(f.processing_time?.count ? f.processing_time.p99 : null)),
      line("idle for", f.idle ? seconds(f.idle) : "–")));
}

function providerTable(providers) {
  const number = (value) => ({ number: value });
  const rows = providers.map(([name, p]) => [
    name, number(`${p.used} of ${p.limit}`), number(count(p.ceiling)), number(count(p.waiting)),
    p.paused > 0 ? el("span", { class: "tag warn", text: `paused for ${seconds(p.paused)}` }) : el("span", { class: "tag good", text: "open" }),
    number(count(p.granted)), number(count(p.busy)), number(count(p.timeouts)),
  ]);
  return el("section", { class: "card" }, el("h3", { text: "Providers" }),
    el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Providers" },
      table("Permits of providers", ["provider", "permits used", "configured", "waiting", "state", "granted", "told busy", "time-outs"], rows, { hidden: true })));
}
