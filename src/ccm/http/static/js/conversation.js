// One conversation: what was said and done, and what an operator can do with it.

import { call, get, query } from "./api.js";
import { button, confirm, el, toast } from "./dom.js";
import { percent, when } from "./format.js";

const PAGE = 40;

export class Detail {
  constructor(chatWith, back, changed) {
    Object.assign(this, { chatWith, back, changed });
    this.id = null;
    this.cursor = null;
    this.paged = false;
    this.head = el("div", { class: "detail-head" });
    this.log = el("ol", { class: "entries", "aria-label": "Messages", tabindex: "0" });
    this.older = button("Older messages", { class: "button wide", hidden: true, run: () => this.#older() });
    this.nothing = el("p", { class: "empty", text: "Pick a conversation to read it." });
    this.stage = el("input", { class: "field", id: "stage", maxlength: "100", autocomplete: "off" });
    this.agent = el("input", { class: "field", id: "agent", maxlength: "100", autocomplete: "off", placeholder: "nobody" });
    this.pauser = button("Pause the bot", { class: "button small", run: () => this.#patch({ pause: !this.data.paused }, this.data.paused ? "The bot answers again." : "Paused: messages are kept and not answered.") });
    this.actions = el("div", { class: "actions", role: "group", "aria-label": "Actions" },
      el("form", { class: "row", on: { submit: (event) => { event.preventDefault(); this.#patch({ stage: this.stage.value.trim() }, "The stage is changed."); } } },
        el("label", { for: "stage", text: "stage" }), this.stage, button("Set", { type: "submit", class: "button small" })),
      el("form", { class: "row", on: { submit: (event) => { event.preventDefault(); this.#patch({ hand_off: { to: this.agent.value.trim() } }, "Handed off."); } } },
        el("label", { for: "agent", text: "in charge" }), this.agent, button("Hand off", { glyph: "hand", type: "submit", class: "button small" })),
      el("div", { class: "row" }, this.pauser,
        button("Stop", { glyph: "stop", class: "button small", run: () => this.#stop() }),
        button("Chat", { glyph: "chat", class: "button small", run: () => this.chatWith(this.id) }),
        button("Forget", { glyph: "trash", class: "button small danger", run: () => this.#forget() })));
    this.full = el("div", { class: "detail", hidden: true }, this.head, this.actions, this.older, this.log);
    this.node = el("div", { class: "detail-box" }, this.nothing, this.full);
  }

  get path() {
    return `/api/v1/conversations/${encodeURIComponent(this.id)}`;
  }

  async open(id) {
    this.id = id;
    this.paged = false;
    this.log.replaceChildren();
    if (await this.#load()) {
      this.log.scrollTop = this.log.scrollHeight;
      this.title?.focus({ preventScroll: false });
    }
  }

  close() {
    this.id = null;
    this.full.hidden = true;
    this.nothing.hidden = false;
  }

  /** Read it again, unless somebody reads older messages or types. */
  refresh() {
    if (this.id && !this.paged && !this.full.contains(document.activeElement?.closest("input"))) this.#load();
  }

  async #load() {
    const { id } = this;
    try {
      const [data, page] = await Promise.all([get(this.path), get(query(`${this.path}/messages`, { limit: PAGE }))]);
      if (id !== this.id) return false;
      const low = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 60;
      this.#show(data);
      this.log.replaceChildren(...page.items.map(entry));
      this.cursor = page.cursor;
      this.older.hidden = !page.cursor;
      if (low) this.log.scrollTop = this.log.scrollHeight;
      return true;
    } catch (error) {
      if (id === this.id) toast(error.message, "bad");
      return false;
    }
  }

  #show(data) {
    this.data = data;
    this.nothing.hidden = true;
    this.full.hidden = false;
    const keep = this.title && this.title === document.activeElement;
    this.title = el("h3", { tabindex: "-1", text: data.id });
    const facts = [
      data.channel && `channel ${data.channel}`, data.tenant && `tenant ${data.tenant}`, `${data.messages} messages`,
      `${data.replies} answered`, data.failures && `${data.failures} failed`, `since ${when(data.created)}`,
      data.score !== null && data.score !== undefined && `qualified ${percent(data.score)}`,
    ].filter(Boolean);
    this.head.replaceChildren(
      el("div", { class: "detail-title" },
        button("", { glyph: "back", label: "Back to the list", class: "button ghost square small back", run: this.back }), this.title,
        data.paused ? el("span", { class: "tag warn", text: "paused" }) : null,
        data.status && data.status !== "open" ? el("span", { class: "tag", text: data.status }) : null,
        data.stage ? el("span", { class: "tag accent", text: data.stage }) : null,
        data.is_qualified ? el("span", { class: "tag good", text: "qualified" }) : null),
      el("p", { class: "hint", text: facts.join(" · ") }),
      data.summary ? el("p", { class: "summary", text: data.summary }) : "");
    if (keep) this.title.focus({ preventScroll: true });
    if (document.activeElement !== this.stage) this.stage.value = data.stage ?? "";
    if (document.activeElement !== this.agent) this.agent.value = data.agent ?? "";
    const made = button(data.paused ? "Let the bot answer" : "Pause the bot", { glyph: data.paused ? "play" : "pause" });
    this.pauser.replaceChildren(...made.childNodes);
  }

  async #older() {
    const { id } = this;
    const before = this.log.scrollHeight;
    this.older.disabled = true;
    try {
      const page = await get(query(`${this.path}/messages`, { limit: PAGE, cursor: this.cursor }));
      if (id !== this.id) return;
      this.paged = true;
      this.log.prepend(...page.items.map(entry));
      this.log.scrollTop = this.log.scrollHeight - before;
      this.cursor = page.cursor;
      this.older.hidden = !page.cursor;
    } catch (error) {
      toast(error.message, "bad");
    } finally {
      this.older.disabled = false;
    }
  }

  async #patch(change, done) {
    try {
      this.#show(await call("PATCH", this.path, change));
      toast(done);
      this.paged = false;
      await this.#load();
      this.changed();
    } catch (error) {
      toast(error.message, "bad");
    }
  }

  async #stop() {
    try {
      const { waiting, running } = await call("POST", `${this.path}/stop`);
      toast(waiting + running ? `Stopped: ${running} running, ${waiting} waiting.` : "There was nothing to stop.");
    } catch (error) {
      toast(error.message, "bad");
    }
  }

  async #forget() {
    const yes = await confirm("Forget this conversation?", "What its users have said, here and elsewhere, is erased, with the replies to it. This cannot be undone.", "Forget");
    if (!yes) return;
    try {
      await call("DELETE", this.path);
      toast("Forgotten.");
      this.back();
    } catch (error) {
      toast(error.message, "bad");
    }
  }
}

function data(text) {
  if (!text) return {};
  if (typeof text === "object") return text;
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

const EVENTS = {
  stage: (more) => `moved to stage “${more.to ?? ""}”`, hand_off: (more) => (more.agent ? `handed off to ${more.agent}` : "handed back"),
  pause: () => "paused the bot", resume: () => "let the bot answer again", qualify: (more) => `judged “${more.criterion ?? "a criterion"}”`,
};

/** One line of the history. */
function entry(item) {
  if (item.role === "event") {
    const did = EVENTS[item.kind]?.(data(item.data)) ?? item.kind;
    return el("li", { class: "entry event" }, el("span", { text: `${item.user || "somebody"} ${did}${item.text ? `: ${item.text}` : ""}` }), " ", el("time", { text: when(item.at) }));
  }
  const bot = item.role === "assistant";
  return el("li", { class: `entry ${bot ? "bot" : "user"}` },
    el("span", { class: "entry-who" }, el("span", { text: bot ? "bot" : item.user }), el("time", { text: when(item.at) })),
    el("p", { class: "bubble-text", dir: "auto", text: item.text }),
    item.partial ? el("span", { class: "tag warn", text: "interrupted" }) : null,
    !bot && item.handled === false ? el("span", { class: "tag", text: "never answered" }) : null);
}
