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

  /** There is a connection; what the server had said before it was lost has been heard before this. */
  welcome() {
    this.sent.clear();
    for (const [ref, frame] of this.frames) if (!this.sent.has(ref)) this.#send(ref, frame);
  }

  #send(ref, frame) {
    if (this.socket.send(frame)) this.sent.add(ref);
  }
}
