// The WebSocket: one JSON object a frame, taken up again where it was when the connection is lost.

import { onKey, subprotocols } from "./api.js";

const FIRST_PAUSE = 300; // milliseconds
const LONGEST_PAUSE = 8000;
const KEEP_ALIVE = 20000;
const PATIENCE = 10000;

/**
 * Tells its listeners "state" (connecting, open, waiting), "welcome" (detail.resumed) and "frame" (detail).
 *
 * Frames that are sent while there is no connection are not kept here: whoever sends them knows which are
 * still worth sending after a welcome.
 */
export class Socket extends EventTarget {
  constructor(path) {
    super();
    this.url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;
    this.state = "connecting";
    this.token = null;
    this.seen = 0;
    this.tries = 0;
    this.web = null;
    this.timer = null;
    this.beat = null;
    addEventListener("online", () => this.#again(0));
    onKey(() => { this.token = null; this.#leave(); this.#again(0); });
  }

  start() {
    this.#connect();
  }

  /** Whether it was handed to the connection. */
  send(frame) {
    if (this.state !== "open") return false;
    this.web.send(JSON.stringify(frame));
    return true;
  }

  #connect() {
    clearTimeout(this.timer);
    this.#become("connecting");
    const web = new WebSocket(this.url, subprotocols());
    this.web = web;
    web.addEventListener("open", () => {
      const hello = { type: "hello" };
      if (this.token) Object.assign(hello, { resume: this.token, last_seen: this.seen });
      web.send(JSON.stringify(hello));
    });
    web.addEventListener("message", (event) => { if (web === this.web) this.#take(JSON.parse(event.data)); });
    web.addEventListener("close", () => { if (web === this.web) this.#again(); });
  }

  #take(frame) {
    clearTimeout(this.beat);
    this.beat = setTimeout(() => this.#ping(), KEEP_ALIVE);
    if (frame.type === "welcome") {
      const resumed = Boolean(frame.resumed);
      this.seen = frame.seq ?? 0;
      this.token = frame.resume;
      this.tries = 0;
      this.#become("open");
      this.dispatchEvent(new CustomEvent("welcome", { detail: { resumed } }));
      return;
    }
    if (frame.seq !== undefined) {
      if (frame.seq <= this.seen) return; // sent again after a resume, and seen before
      this.seen = frame.seq;
    }
    this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  }

  #ping() {
    if (!this.send({ type: "ping" })) return;
    this.beat = setTimeout(() => { this.#leave(); this.#again(0); }, PATIENCE);
  }

  #leave() {
    const { web } = this;
    this.web = null;
    web?.close();
  }

  #again(pause) {
    if (this.state === "open" && pause === 0 && this.web) return; // it is there
    clearTimeout(this.beat);
    clearTimeout(this.timer);
    const wait = pause ?? Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.tries) * (0.75 + Math.random() / 2);
    this.tries += 1;
    this.#become("waiting");
    this.timer = setTimeout(() => this.#connect(), wait);
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
