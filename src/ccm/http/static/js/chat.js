// The chat box: what is said here goes through the manager like everything else, over the WebSocket.

import { get, query } from "./api.js";
import { Bubble } from "./bubble.js";
import { announce, button, el, icon, say } from "./dom.js";
import { seconds } from "./format.js";
import { Outbox } from "./outbox.js";
import { Socket } from "./socket.js";
import { changed, isWorthAnother, sentence } from "./words.js";

const TYPING_EVERY = 3000;
const CONNECTION = { connecting: "connecting…", open: "connected", waiting: "connection lost; trying again" };

export class Chat {
  /** `kept()`: resolves to whether conversations are kept, so that there is a history to ask for. */
  constructor(kept) {
    this.kept = kept;
    this.socket = new Socket("/api/v1/ws");
    this.outbox = new Outbox(this.socket);
    this.messages = new Map(); // id: { id, text, bubble, answer, done }
    this.edits = new Map(); // ref: { message, text }
    this.lastTyping = 0;
    this.conversation = sessionStorage.getItem("ccm.conversation") || this.#fresh();
    this.#build();
    this.socket.addEventListener("state", () => this.#connection());
    this.socket.addEventListener("welcome", ({ detail }) => this.#welcome(detail.resumed));
    this.socket.addEventListener("frame", ({ detail }) => this.#frame(detail));
    this.#history();
  }

  start() {
    this.socket.start();
  }

  /** Go on with a conversation that exists. */
  open(conversation) {
    this.#leave(conversation);
    sessionStorage.setItem("ccm.conversation", conversation);
    this.#history();
    this.field.focus();
  }

  // -- how it looks ------------------------------------------------------------------------------

  #build() {
    const stored = localStorage.getItem("ccm.user");
    this.user = el("input", { class: "field", id: "chat-user", value: stored || "guest", maxlength: "100", autocomplete: "off", on: {
      change: () => localStorage.setItem("ccm.user", this.user.value.trim() || "guest"),
    } });
    this.priority = el("select", { class: "field", id: "chat-priority" },
      [["", "as the rules say"], ["critical", "critical"], ["high", "high"], ["normal", "normal"], ["low", "low"]]
        .map(([value, text]) => el("option", { value, text })));
    this.link = el("span", { class: "chat-link", role: "status", data: { state: "connecting" }, text: CONNECTION.connecting });
    this.name = el("code", { class: "chat-name", title: "The id of this conversation", text: this.conversation });
    this.log = el("ol", { class: "chat-log", role: "log", "aria-live": "off", "aria-label": "Messages", tabindex: "0" });
    this.empty = el("div", { class: "chat-empty" }, icon("chat"),
      el("p", { text: "Write something, and watch it go through the manager." }));
    this.others = el("p", { class: "chat-others", role: "status" });
    this.field = el("textarea", { class: "field", id: "chat-text", rows: "1", placeholder: "Write a message…", maxlength: "20000",
      on: { keydown: (event) => this.#key(event), input: () => this.#typed() } });
    this.stopper = button("Stop", { glyph: "stop", class: "button danger", disabled: true, run: () => this.stop() });
    const form = el("form", { class: "chat-form", on: { submit: (event) => { event.preventDefault(); this.#send(); } } },
      el("label", { class: "sr-only", for: "chat-text", text: "Message" }), this.field,
      this.stopper, button("Send", { glyph: "send", type: "submit", class: "button primary" }));
    this.log.addEventListener("grown", () => this.#follow());
    this.node = el("div", { class: "chat" },
      el("div", { class: "chat-head" },
        el("div", { class: "chat-title" }, el("h2", { text: "Try the bot" }), this.link,
          button("New", { glyph: "plus", label: "New conversation", class: "button small", run: () => { this.#leave(this.#fresh()); sessionStorage.removeItem("ccm.conversation"); this.field.focus(); } })),
        el("div", { class: "chat-as" },
          el("label", { for: "chat-user", text: "as" }), this.user,
          el("label", { for: "chat-priority", text: "priority" }), this.priority),
        this.name),
      el("div", { class: "chat-body" }, this.log, this.empty),
      this.others, form,
      el("p", { class: "hint chat-keys" }, el("kbd", { text: "Enter" }), " sends, ", el("kbd", { text: "↑" }), " edits, ", el("kbd", { text: "Esc" }), " stops"));
  }

  #connection() {
    const { state } = this.socket;
    this.link.dataset.state = state;
    say(this.link, CONNECTION[state]);
  }

  /** Scroll to the end, unless somebody reads further up. */
  #follow(force = false) {
    const { log } = this;
    if (force || log.scrollHeight - log.scrollTop - log.clientHeight < 140) log.scrollTop = log.scrollHeight;
  }

  #add(bubble, after = null) {
    this.empty.hidden = true;
    if (after) after.node.after(bubble.node);
    else this.log.append(bubble.node);
    this.#follow(!after);
    return bubble;
  }

  #key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#send();
    } else if (event.key === "Escape" && !this.stopper.disabled) {
      this.stop();
    } else if (event.key === "ArrowUp" && !this.field.value) {
      const message = [...this.messages.values()].filter((one) => !one.done).at(-1);
      if (message) { event.preventDefault(); this.#edit(message); }
    }
  }

  #typed() {
    const now = Date.now();
    if (this.field.value && now - this.lastTyping > TYPING_EVERY) {
      this.lastTyping = now;
      this.socket.send({ type: "typing", conversation: this.conversation, user: this.#who() });
    }
  }

  #who() {
    return this.user.value.replaceAll("/", "").trim() || "guest"; // a "/" would part its address
  }

  // -- conversations -----------------------------------------------------------------------------

  #fresh() {
    return `web-${token(12)}`;
  }

  #leave(conversation) {
    this.conversation = conversation;
    for (const message of this.messages.values()) clearInterval(message.clock);
    this.messages.clear();
    this.edits.clear();
    this.outbox.clear();
    this.log.replaceChildren();
    this.empty.hidden = false;
    say(this.name, conversation);
    say(this.others, "");
    this.#busy();
  }

  /** What was said before, after a reload or when a conversation is opened. */
  async #history() {
    const { conversation } = this;
    if (!sessionStorage.getItem("ccm.conversation") || !(await this.kept())) return;
    let page;
    try {
      page = await get(query(`/api/v1/conversations/${encodeURIComponent(conversation)}/messages`, { limit: 30 }));
    } catch {
      return; // new, or not kept, or not for this key: the chat works without
    }
    if (conversation !== this.conversation || this.messages.size) return;
    for (const entry of page.items.filter((one) => one.role !== "event")) {
      const side = entry.role === "assistant" ? "bot" : entry.user === this.#who() ? "own" : "other";
      const bubble = this.#add(new Bubble(side, side === "bot" ? "bot" : entry.user, entry.text, entry.at));
      if (entry.partial) bubble.status("interrupted", "warn");
    }
  }

  // -- what the person does ----------------------------------------------------------------------

  #send() {
    const text = this.field.value.trim();
    if (!text) return;
    this.field.value = "";
    this.lastTyping = 0;
    sessionStorage.setItem("ccm.conversation", this.conversation);
    this.#submit(text, this.priority.value);
  }

  #submit(text, priority) {
    const id = token(24);
    const bubble = new Bubble("own", this.#who(), text);
    if (priority) bubble.node.dataset.priority = priority;
    const message = { id, text, priority, bubble, answer: null, done: false, taken: false };
    this.messages.set(id, message);
    this.#add(bubble);
    bubble.status(this.socket.state === "open" ? "sending…" : "will be sent when the connection is back");
    bubble.offer(button("", { glyph: "edit", label: "Edit this message", class: "button ghost square small", run: () => this.#edit(message) }));
    const frame = { type: "message", ref: id, id, user: this.#who(), text, conversation: this.conversation, channel: "web" };
    if (priority) frame.priority = priority;
    this.outbox.put(id, frame);
    this.#busy();
  }

  #edit(message) {
    message.bubble.edit((text) => {
      const ref = token(12);
      this.edits.set(ref, { message, text });
      if (!this.socket.send({ type: "edit", ref, id: message.id, text })) {
        // Not sent yet at all: then it is simply sent with the other text. Else the edit waits for the connection.
        if (!message.taken && this.outbox.change(message.id, { text })) this.#edited({ ref, change: "replaced" });
        else this.outbox.put(ref, { type: "edit", ref, id: message.id, text });
      }
      this.field.focus();
    });
  }

  /** End what is being answered, and what waits. */
  stop() {
    this.stopper.disabled = true;
    this.outbox.put("stop", { type: "stop", ref: "stop", conversation: this.conversation });
  }

  // -- what the server says ----------------------------------------------------------------------

  #welcome(resumed) {
    this.outbox.welcome();
    if (resumed) return;
    // Whatever ran for the old connection is gone. The same ids again: nothing is answered twice.
    for (const message of this.messages.values()) {
      if (message.done || !message.taken) continue;
      message.answer?.set("");
      message.answer?.typing(true);
      this.outbox.put(message.id, {
        type: "message", ref: message.id, id: message.id, user: this.#who(), text: message.text,
        conversation: this.conversation, channel: "web", ...(message.priority ? { priority: message.priority } : {}),
      });
    }
  }

  #frame(frame) {
    const message = this.messages.get(frame.id) ?? this.messages.get(frame.ref);
    switch (frame.type) {
      case "receipt": if (message) this.#receipt(message, frame); break;
      case "typing": this.#typing(frame); break;
      case "piece": if (message && !message.done) this.#piece(message, frame.text); break;
      case "restarted": if (message && !message.done) { this.#answer(message).set(""); message.answer.typing(true); } break;
      case "outcome": if (message) this.#outcome(message, frame); break;
      case "edited": this.#edited(frame); break;
      case "stopped": this.#stopped(frame); break;
      case "error": this.#error(frame); break;
      case "farewell": say(this.link, "the service is shutting down"); break;
      default:
    }
  }

  #receipt(message, frame) {
    this.outbox.drop(message.id);
    message.taken = true;
    if (message.done) return;
    const place = frame.position ? `waiting, ${frame.position} before it` : "accepted";
    const guess = frame.position && frame.estimated_wait ? `, about ${seconds(frame.estimated_wait)}` : "";
    message.bubble.status(`${place}${guess}`);
  }

  #typing(frame) {
    const message = this.messages.get(frame.id);
    if (message && !message.done) {
      this.#answer(message);
    } else if (frame.user && frame.conversation === this.conversation) {
      say(this.others, `${frame.user} is writing…`);
      clearTimeout(this.othersTimer);
      this.othersTimer = setTimeout(() => say(this.others, ""), 2 * TYPING_EVERY);
    }
  }

  #answer(message) {
    if (!message.answer) {
      message.answer = this.#add(new Bubble("bot", "bot"), message.bubble);
      message.answer.typing(true);
      this.#follow();
    }
    return message.answer;
  }

  #piece(message, text) {
    if (!this.#answer(message).text) message.bubble.status("being answered");
    message.answer.append(text);
  }

  #outcome(message, frame) {
    this.outbox.drop(message.id);
    if (message.done) return; // it was sent twice around a lost connection
    message.done = message.taken = true;
    message.bubble.offer();
    if (frame.problem) this.#refused(message, frame.problem, frame.outcome);
    else this.#replied(message, frame);
    this.#busy();
  }

  #replied(message, frame) {
    const text = typeof frame.reply === "string" ? frame.reply : frame.reply?.text ?? "";
    const { timings: t } = frame;
    if (frame.outcome === "merged" && [...this.messages.values()].some((other) => other !== message && other.merged === text)) {
      message.answer?.node.remove();
      message.bubble.status("answered together with another message", "good");
      return;
    }
    message.merged = frame.outcome === "merged" ? text : null;
    message.bubble.status("", "good");
    if (!text) {
      message.answer?.node.remove();
      message.bubble.status("taken, without a reply", "good");
      return;
    }
    this.#answer(message).set(text);
    const took = t ? `${seconds(t.total ?? t.waited + t.served)}, of which ${seconds(t.waited)} waiting` : "";
    message.answer.status(took, "good");
    announce(`The bot says: ${text}`);
  }

  #refused(message, problem, outcome) {
    const stopped = outcome === "cancelled" || problem.reason === "cancelled";
    if (message.answer) {
      const text = message.answer.text;
      message.answer.set(text);
      if (text) message.answer.status(stopped ? "stopped here" : "it ends here", "warn");
      else message.answer.node.remove();
    }
    const words = stopped ? "Stopped." : sentence(problem);
    message.bubble.status(words, stopped ? "warn" : "bad");
    announce(words, { urgent: !stopped });
    if (stopped || isWorthAnother(problem)) this.#offerAgain(message, problem);
  }

  /** "Send again", as soon as the time that the server named is over. */
  #offerAgain(message, problem) {
    const again = button("Send again", { glyph: "replay", class: "button small", run: () => {
      clearInterval(message.clock);
      message.bubble.node.remove();
      message.answer?.node.remove();
      this.messages.delete(message.id);
      this.#submit(message.text, message.priority);
      this.field.focus();
    } });
    message.bubble.offer(again);
    const until = Date.now() + 1000 * (problem.retry_after ?? 0);
    const words = again.querySelector("span");
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      again.disabled = left > 0;
      say(words, left > 0 ? `Send again in ${left} s` : "Send again");
      if (left <= 0) clearInterval(message.clock);
    };
    if (problem.retry_after) message.clock = setInterval(tick, 250);
    tick();
  }

  #edited(frame) {
    const edit = this.edits.get(frame.ref);
    this.edits.delete(frame.ref);
    this.outbox.drop(frame.ref);
    if (!edit) return;
    const { message, text } = edit;
    const words = changed(frame.change);
    if (["replaced", "restarted"].includes(frame.change)) {
      message.text = text;
      message.bubble.set(text);
      message.bubble.node.classList.add("edited");
      message.bubble.status(words);
    } else {
      message.bubble.status(words, "warn");
      message.bubble.offer(button("Send as new", { glyph: "send", class: "button small", run: () => { message.bubble.offer(); this.#submit(text, message.priority); } }));
    }
    announce(words);
  }

  #stopped(frame) {
    this.outbox.drop(frame.ref);
    const ended = (frame.waiting ?? 0) + (frame.running ?? 0);
    announce(ended ? "Stopped." : "There was nothing to stop.");
    this.#busy();
  }

  #error(frame) {
    this.outbox.drop(frame.ref);
    const edit = this.edits.get(frame.ref);
    const message = this.messages.get(frame.ref) ?? this.messages.get(frame.id);
    if (edit) {
      this.edits.delete(frame.ref);
      edit.message.bubble.status(sentence(frame.problem), "bad");
    } else if (message && !message.done) {
      message.done = true;
      message.bubble.offer();
      this.#refused(message, frame.problem, "rejected");
    } else {
      say(this.others, sentence(frame.problem));
    }
    this.#busy();
  }

  #busy() {
    this.stopper.disabled = ![...this.messages.values()].some((message) => !message.done);
  }
}

/** Random letters and digits; works on pages without a secure context too. */
function token(length) {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return [...bytes].map((byte) => "abcdefghijklmnopqrstuvwxyz234567"[byte & 31]).join("");
}
