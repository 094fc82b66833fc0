// Alerts, and what happens at this moment.

import { announce, button, el, say } from "./dom.js";
import { EventLog } from "./events.js";
import { ago, percent, rate, seconds } from "./format.js";

const KINDS = {
  depth: ["Work piles up", (value) => `${value} items wait`],
  dead_letters: ["Dead letters", (value) => `${value} are kept`],
  idle: ["A service is idle", (value) => `nothing in hand for ${seconds(value)}`],
  wait: ["People wait long", (value) => `the oldest for ${seconds(value)}`],
  error_rate: ["Many turns fail", percent],
  shed_rate: ["Messages are given up", (value) => `${rate(value)} per second`],
  stuck: ["Handlers do not end", (value) => `${value} turns`],
};

export class AlertsPanel {
  constructor(feed) {
    this.feed = feed;
    this.known = new Map();
    this.first = true;
    this.list = el("ul", { class: "alerts" });
    this.note = el("p", { class: "empty" });
    this.log = new EventLog();
    this.panel = el("section", {},
      el("div", { class: "panel-head" }, el("h2", { text: "Alerts" }), this.total = el("p", { class: "hint" })),
      this.list, this.note, this.log.node);
    feed.addEventListener("alerts", () => this.#draw());
  }

  show() {
    this.log.start();
  }

  hide() {
    this.log.stop();
  }

  #draw() {
    const { alerts, statistics } = this.feed;
    const items = new Map(alerts.map((alert) => [`${alert.kind ?? alert.name}/${alert.subject ?? ""}/${alert.level}`, alert]));
    for (const [id, alert] of items) {
      if (!this.known.has(id) && !this.first) announce(`Alert: ${title(alert)}, ${alert.level}.`, { urgent: alert.level === "critical" });
    }
    for (const [id, alert] of this.known) {
      if (!items.has(id) && !alerts.some((one) => title(one) === title(alert))) announce(`Alert ended: ${title(alert)}.`);
    }
    this.known = items;
    this.first = false;
    this.list.replaceChildren(...alerts.map(card));
    say(this.note, alerts.length ? "" : "No alerts. All is as it should be.");
    const { raised = 0, cleared = 0 } = statistics.alerts ?? {};
    say(this.total, raised ? `${raised} raised, ${cleared} ended since the start` : "");
  }
}

function title(alert) {
  const kind = alert.kind ?? alert.name;
  const [words] = KINDS[kind] ?? [kind.replaceAll("_", " ")];
  return alert.subject ? `${words} (${alert.subject})` : words;
}

function card(alert) {
  const show = KINDS[alert.kind ?? alert.name]?.[1] ?? String;
  return el("li", { class: "card alert", data: { level: alert.level } },
    el("span", { class: `tag ${alert.level === "critical" ? "bad" : "warn"}`, text: alert.level }),
    el("strong", { text: title(alert) }), el("span", { text: show(alert.value) }),
    el("span", { class: "hint", text: `threshold ${alert.threshold}${alert.since ? ` · since ${ago(alert.since)}` : ""}` }));
}

/** The chip in the header: how many there are, the way to them. */
export function alertChip(feed, open) {
  const chip = button("", { class: "button ghost chip", hidden: true, run: open });
  feed.addEventListener("alerts", () => {
    const { length } = feed.alerts;
    chip.hidden = !length;
    chip.dataset.level = feed.alerts.some((alert) => alert.level === "critical") ? "bad" : "warn";
    say(chip, `${length} alert${length === 1 ? "" : "s"}`);
  });
  return chip;
}
