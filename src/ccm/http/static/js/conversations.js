// Conversations: a list with search, and the one that was picked.

import { get, query } from "./api.js";
import { Detail } from "./conversation.js";
import { button, el, icon } from "./dom.js";
import { ago, count, when } from "./format.js";

const PAGE = 30;

export class ConversationsPanel {
  /** `chatWith(id)`: go on with a conversation in the chat box. */
  constructor(feed, chatWith) {
    this.feed = feed;
    this.cursor = null;
    this.paged = false;
    this.seen = -1;
    this.visible = false;
    this.picked = null;
    this.run = 0;
    this.search = el("input", { class: "field", type: "search", id: "search", placeholder: "Words that were said…", maxlength: "200" });
    this.user = el("input", { class: "field", id: "search-user", placeholder: "anyone", maxlength: "100" });
    this.list = el("ul", { class: "picks", "aria-label": "Conversations" });
    this.note = el("p", { class: "empty", role: "status" });
    this.more = button("More", { class: "button wide", hidden: true, run: () => this.#load(this.cursor) });
    this.detail = new Detail(chatWith, () => this.#back(), () => this.refresh());
    const form = el("form", { class: "searching", role: "search", on: { submit: (event) => { event.preventDefault(); this.refresh(); } } },
      el("label", { class: "sr-only", for: "search", text: "Search in what was said" }),
      el("div", { class: "with-icon" }, icon("search"), this.search),
      el("div", { class: "row" }, el("label", { for: "search-user", text: "user" }), this.user, button("Search", { type: "submit", class: "button primary" })));
    this.search.addEventListener("search", () => { if (!this.search.value) this.refresh(); });
    this.panel = el("section", {},
      el("div", { class: "panel-head" }, el("h2", { text: "Conversations" })),
      el("div", { class: "split" },
        el("div", { class: "split-list card" }, form, this.list, this.note, this.more),
        el("div", { class: "split-detail card" }, this.detail.node)));
    feed.addEventListener("statistics", () => this.#beat());
  }

  show() {
    this.visible = true;
    const id = decodeURIComponent(location.hash.split("/")[1] ?? "");
    this.refresh();
    if (id && id !== this.picked) this.#pick(id);
  }

  hide() {
    this.visible = false;
  }

  refresh() {
    this.paged = false;
    return this.#load(null);
  }

  /** Something was said: the list moves, as long as nobody has gone further down or searches. */
  #beat() {
    const { received, outcomes } = this.feed.statistics;
    const seen = received + Object.values(outcomes).reduce((a, b) => a + b, 0);
    if (!this.visible || this.paged || this.search.value || seen === this.seen) return;
    this.seen = seen;
    this.refresh();
    this.detail.refresh();
  }

  async #load(cursor) {
    const run = ++this.run;
    if (!(await this.feed.kept())) {
      this.note.textContent = "Conversations are not kept: start the manager with a storage to read them here.";
      return;
    }
    const text = this.search.value.trim();
    const user = this.user.value.trim();
    let path = user ? `/api/v1/users/${encodeURIComponent(user)}/conversations` : "/api/v1/conversations";
    if (text) path = query("/api/v1/search", { q: text, user, limit: PAGE, cursor });
    else path = query(path, { limit: PAGE, cursor });
    let page;
    try {
      page = await get(path);
    } catch (error) {
      if (run !== this.run) return;
      this.list.replaceChildren();
      this.more.hidden = true;
      this.note.textContent = error.message;
      return;
    }
    if (run !== this.run) return; // a newer one is on its way
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    const items = page.items.map((item) => (text ? this.#hit(item) : this.#item(item)));
    if (cursor) {
      this.paged = true;
      this.list.append(...items);
    } else {
      this.list.replaceChildren(...items);
    }
    this.cursor = page.cursor;
    this.more.hidden = !page.cursor;
    this.note.textContent = this.list.childElementCount ? "" : text ? "Nothing was found." : "There are no conversations yet.";
    if (focused) this.#row(focused)?.focus();
  }

  #row(id) {
    return [...this.list.querySelectorAll("button")].find((one) => one.dataset.id === id);
  }

  #item(item) {
    return this.#entry(item.id,
      el("span", { class: "pick-head" }, el("strong", { text: item.id }), el("time", { text: ago(item.updated), title: when(item.updated) })),
      el("span", { class: "pick-tags" },
        item.paused ? el("span", { class: "tag warn", text: "paused" }) : null,
        item.status === "archived" ? el("span", { class: "tag", text: "archived" }) : null,
        item.stage ? el("span", { class: "tag accent", text: item.stage }) : null,
        item.agent ? el("span", { class: "tag", text: item.agent }) : null),
      el("span", { class: "hint" }, [item.channel, item.tenant, `${count(item.messages)} messages`, `${count(item.replies)} answered`].filter(Boolean).join(" · "),
        item.failures ? el("span", { class: "bad", text: ` · ${count(item.failures)} failed` }) : null));
  }

  #hit(item) {
    const snippet = el("span", { class: "snippet" });
    for (const [at, part] of item.snippet.split(/[[\]]/).entries()) {
      snippet.append(at % 2 ? el("mark", { text: part }) : part);
    }
    return this.#entry(item.conversation,
      el("span", { class: "pick-head" }, el("strong", { text: item.user || item.role }), el("time", { text: when(item.at) })),
      snippet, el("span", { class: "hint", text: item.conversation }));
  }

  #entry(id, ...inside) {
    return el("li", {}, el("button", {
      type: "button", class: "pick", data: { id }, "aria-current": id === this.picked ? "true" : null,
      on: { click: () => this.#pick(id) },
    }, inside));
  }

  #pick(id) {
    this.picked = id;
    for (const one of this.list.querySelectorAll("button")) {
      if (one.dataset.id === id) one.setAttribute("aria-current", "true");
      else one.removeAttribute("aria-current");
    }
    history.replaceState(null, "", `#conversations/${encodeURIComponent(id)}`);
    this.panel.classList.add("picked");
    this.detail.open(id);
  }

  #back() {
    const { picked } = this;
    this.picked = null;
    this.panel.classList.remove("picked");
    history.replaceState(null, "", "#conversations");
    this.detail.close();
    this.refresh().then(() => this.#row(picked)?.focus());
  }
}
