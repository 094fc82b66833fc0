// The manager's events as they happen. EventSource cannot send a key, so the stream is read by hand.

import { key } from "./api.js";
import { button, el, say } from "./dom.js";
import { seconds } from "./format.js";

const KEPT = 200;
const PAUSE = 3000;
const SPANS = new Set(["waited", "served", "delay", "since"]);

export class EventLog {
  constructor() {
    this.abort = null;
    this.paused = false;
    this.list = el("ol", { class: "events", tabindex: "0", "aria-label": "Events, the newest first" });
    this.state = el("span", { class: "hint", role: "status" });
    this.pauser = button("Pause", { class: "button small", "aria-pressed": "false", run: () => this.#pause() });
    this.node = el("section", { class: "card event-log" },
      el("div", { class: "row" }, el("h3", { text: "What happens" }), this.state, this.pauser), this.list);
  }

  start() {
    this.stop();
    this.abort = new AbortController();
    this.#read(this.abort.signal);
  }

  stop() {
    this.abort?.abort();
    this.abort = null;
  }

  #pause() {
    this.paused = !this.paused;
    this.pauser.setAttribute("aria-pressed", String(this.paused));
    say(this.state, this.paused ? "paused" : "");
  }

  async #read(signal) {
    while (!signal.aborted) {
      try {
        const headers = { Accept: "text/event-stream" };
        if (key()) headers.Authorization = `Bearer ${key()}`;
        const response = await fetch("/api/v1/events", { headers, signal });
        if (response.status === 403) {
          say(this.state, "this key may not see events");
          return;
        }
        if (response.ok) {
          say(this.state, this.paused ? "paused" : "");
          for await (const event of parse(response.body.pipeThrough(new TextDecoderStream()))) this.#add(event);
        }
      } catch {
        if (signal.aborted) return;
      }
      say(this.state, "no connection; trying again");
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }

  #add({ name, data }) {
    if (this.paused) return;
    const about = Object.entries(data)
      .filter(([field, value]) => !["at", "type"].includes(field) && value !== "" && value !== null)
      .map(([field, value]) => `${field.replaceAll("_", " ")} ${SPANS.has(field) ? seconds(value) : show(value)}`);
    this.list.prepend(el("li", { class: "event-line" },
      el("time", { text: new Date().toLocaleTimeString([], { hourCycle: "h23" }) }),
      el("strong", { class: `event-name ${tone(name, data)}`, text: name }), el("span", { text: about.join(" · ") })));
    while (this.list.childElementCount > KEPT) this.list.lastElementChild.remove();
  }
}

function show(value) {
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(3)));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function tone(name, data) {
  if (/Failed|Stuck|AlertRaised/.test(name) || JSON.stringify(data.outcome ?? "").includes("failed")) return "bad";
  if (/Refused|Retrying|Shedding|Paused|lagged/.test(name)) return "warn";
  return /Ended|Recovered|Cleared/.test(name) ? "good" : "";
}

/** The events of a stream of text: { name, data }. Comments and what is not JSON are left out. */
export async function* parse(stream) {
  const reader = stream.getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = { event: "message", data: "" };
        for (const line of block.split("\n")) {
          const [, field, text] = /^([^:]+): ?(.*)$/.exec(line) ?? [];
          if (field === "data") fields.data += text;
          else if (field) fields[field] = text;
        }
        if (fields.data) yield { name: fields.event, data: JSON.parse(fields.data) };
      }
    }
  } finally {
    reader.releaseLock();
  }
}
