// Dead letters: messages whose handling failed for good, to be tried again or thrown away.

import { call, get, query } from "./api.js";
import { button, confirm, el, toast } from "./dom.js";
import { when } from "./format.js";

export class LettersPanel {
  /** `read(id)`: show a conversation. */
  constructor(feed, read) {
    this.feed = feed;
    this.read = read;
    this.visible = false;
    this.seen = null;
    this.list = el("ul", { class: "letters" });
    this.note = el("p", { class: "empty", role: "status" });
    this.panel = el("section", {},
      el("div", { class: "panel-head" }, el("h2", { tabindex: "-1", text: "Dead letters" }),
        el("p", { class: "hint", text: "Messages that failed for good. Nothing is lost: try them again when the cause is gone." }),
        this.all = button("Replay all", { glyph: "replay", class: "button small", hidden: true, run: () => this.#replayAll() })),
      this.list, this.note);
    feed.addEventListener("statistics", () => {
      if (this.visible && feed.statistics.dead_letters !== this.seen) this.refresh();
    });
  }

  show() {
    this.visible = true;
    this.refresh();
  }

  hide() {
    this.visible = false;
  }

  async refresh() {
    this.seen = this.feed.statistics?.dead_letters ?? null;
    try {
      const { items } = await get(query("/api/v1/dead-letters", { limit: 100 }));
      this.items = items.reverse(); // the newest first
      this.list.replaceChildren(...this.items.map((item) => this.#letter(item)));
      this.all.hidden = items.length < 2;
      this.note.textContent = items.length ? "" : "There are none. Everything was answered or told why not.";
    } catch (error) {
      this.list.replaceChildren();
      this.note.textContent = error.message;
    }
  }

  #letter(item) {
    const where = item.route || item.service || "";
    const row = el("li", { class: "card letter" },
      el("div", { class: "letter-head" },
        el("strong", { text: `#${item.id}` }), where ? el("span", { class: "tag accent", text: where }) : null,
        el("span", { class: "hint", text: `${item.user ? `${item.user} · ` : ""}${item.attempts} attempt${item.attempts === 1 ? "" : "s"} · ${when(item.at)}` })),
      item.text ? el("p", { class: "bubble-text letter-text", dir: "auto", text: item.text }) : null,
      el("pre", { class: "error", tabindex: "0", "aria-label": "The last error", text: item.error }),
      el("div", { class: "row end" },
        item.conversation ? button("Read", { glyph: "conversations", class: "button small", "aria-label": `Read the conversation of letter ${item.id}`, run: () => this.read(item.conversation) }) : null,
        button("Discard", { glyph: "trash", class: "button small danger", "aria-label": `Discard letter ${item.id}`, run: () => this.#discard(item, row) }),
        button("Replay", { glyph: "replay", class: "button small primary", "aria-label": `Replay letter ${item.id}`, run: () => this.#replay(item, row) })));
    return row;
  }

  async #replay(item, row) {
    await this.#do(row, () => call("POST", `/api/v1/dead-letters/${item.id}/replay`), `Letter ${item.id} is being handled again.`);
  }

  async #replayAll() {
    const { items } = this;
    if (!(await confirm(`Replay ${items.length} letters?`, "Each of them is handled again, the oldest first.", "Replay all", { danger: false }))) return;
    let done = 0;
    await this.#do(this.list, async () => {
      for (const item of items.toReversed()) {
        await call("POST", `/api/v1/dead-letters/${item.id}/replay`);
        done += 1;
      }
    }, () => `${done} letters are being handled again.`);
    this.list.removeAttribute("aria-busy");
  }

  async #discard(item, row) {
    if (await confirm(`Discard letter ${item.id}?`, "The message is thrown away. This cannot be undone.", "Discard")) {
      await this.#do(row, () => call("DELETE", `/api/v1/dead-letters/${item.id}`), `Letter ${item.id} is thrown away.`);
    }
  }

  async #do(row, action, done) {
    row.setAttribute("aria-busy", "true");
    try {
      await action();
      toast(typeof done === "function" ? done() : done);
    } catch (error) {
      toast(error.message, "bad");
    }
    await this.refresh();
    this.feed.refresh();
    this.panel.querySelector("h2").focus({ preventScroll: true });
  }
}
