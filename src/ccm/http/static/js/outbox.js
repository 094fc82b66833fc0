// Frames that the server has not answered yet. They are sent again after the connection was lost.

export class Outbox {
  constructor(socket) {
    this.socket = socket;
    this.frames = new Map(); // ref: frame
    this.sent = new Set(); // refs that this connection has carried
  }

  /** Send `frame` now, or when there is a connection; it stays here until `drop`. */
  put(ref, frame) {
    this.frames.set(ref, frame);
    this.sent.delete(ref);
    this.#send(ref, frame);
  }

  /** Change a frame that has not been sent; whether it was there. */
  change(ref, fields) {
    const frame = this.frames.get(ref);
    if (frame) Object.assign(frame, fields);
    return Boolean(frame);
  }

  drop(ref) {
    this.frames.delete(ref);
    this.sent.delete(ref);
  }

  clear() {
    this.frames.clear();
    this.sent.clear();
  }

  /**
   * There is a connection. After a resume the server first says again what was missed, and may answer some
   * of these with it; so what is left is sent behind a ping, when its pong shows that all of that was read.
   */
  welcome(resumed) {
    this.sent.clear();
    if (!resumed) {
      this.#all();
      return;
    }
    const heard = ({ detail }) => {
      if (detail.type !== "pong") return;
      this.socket.removeEventListener("frame", heard);
      this.#all();
    };
    this.socket.addEventListener("frame", heard);
    this.socket.send({ type: "ping" });
  }

  #all() {
    for (const [ref, frame] of this.frames) if (!this.sent.has(ref)) this.#send(ref, frame);
  }

  #send(ref, frame) {
    if (this.socket.send(frame)) this.sent.add(ref);
  }
}
