// How one message of the chat looks: what was said, what became of it, and what can be done with it.

import { button, el, say } from "./dom.js";
import { when } from "./format.js";

export class Bubble {
  /** `side`: "own", "bot" or "other". */
  constructor(side, who, text = "", at = Date.now() / 1000) {
    this.body = el("p", { class: "bubble-text", dir: "auto", text });
    this.state = el("span", { class: "bubble-state" });
    this.tools = el("span", { class: "bubble-tools" });
    this.dots = null;
    this.box = el("div", { class: "bubble" }, this.body);
    this.node = el("li", { class: `said ${side}` },
      el("span", { class: "bubble-who" }, el("span", { text: who }), el("time", { text: when(at) })),
      this.box,
      el("div", { class: "bubble-foot" }, this.state, this.tools));
    this.pieces = [];
    this.frame = 0;
  }

  get text() {
    return this.pieces.length ? this.body.textContent + this.pieces.join("") : this.body.textContent;
  }

  /** The next piece of a streamed reply. Pieces of one frame of the screen become one change. */
  append(piece) {
    this.typing(false);
    this.box.setAttribute("aria-busy", "true");
    this.pieces.push(piece);
    this.frame ||= requestAnimationFrame(() => this.#flush());
    if (document.hidden) this.#flush(); // no frames come there
  }

  #flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.body.append(this.pieces.join(""));
    this.pieces = [];
    this.node.dispatchEvent(new CustomEvent("grown", { bubbles: true }));
  }

  /** All of it, at once. */
  set(text) {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.pieces = [];
    this.typing(false);
    this.box.removeAttribute("aria-busy");
    say(this.body, text);
    this.node.dispatchEvent(new CustomEvent("grown", { bubbles: true }));
  }

  /** Three dots while nothing is written yet. */
  typing(on) {
    if (on === Boolean(this.dots)) return;
    this.dots?.remove();
    this.dots = on ? el("span", { class: "dots" }, el("span", { class: "sr-only", text: "is writing" }),
      [1, 2, 3].map(() => el("i", { "aria-hidden": "true" }))) : null;
    if (this.dots) this.box.append(this.dots);
  }

  status(text, level = "") {
    say(this.state, text);
    this.node.dataset.level = level;
  }

  offer(...tools) {
    this.tools.replaceChildren(...tools);
  }

  /** Turn the text into a field; `save(text)` or nothing when it is left. */
  edit(save) {
    if (this.form) return;
    const field = el("textarea", { class: "field", rows: "2", "aria-label": "Edit the message", value: this.body.textContent });
    const leave = () => {
      this.form.remove();
      this.form = null;
      this.body.hidden = false;
    };
    const submit = (event) => {
      event?.preventDefault();
      const text = field.value.trim();
      leave();
      if (text && text !== this.body.textContent) save(text);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
      if (event.key === "Escape") { event.stopPropagation(); leave(); }
    });
    this.form = el("form", { class: "bubble-edit", on: { submit } }, field,
      el("div", { class: "row end" },
        button("Cancel", { class: "button small", run: leave }),
        button("Save", { type: "submit", class: "button small primary" })));
    this.body.hidden = true;
    this.box.append(this.form);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }
}
