// Requests to the service this page came from: the key, problems, and one prompt when a key is missing.

import { button, el } from "./dom.js";

const KEY = "ccm.key";
let asking = null;
const listeners = new Set();

/** What the server said instead of an answer. */
export class Problem extends Error {
  constructor(body) {
    super(body.detail || body.title || "something went wrong");
    this.body = body;
    this.status = body.status;
    this.reason = body.reason;
    this.wait = body.retry_after;
  }
}

export function key() {
  return sessionStorage.getItem(KEY) || "";
}

export function forgetKey() {
  sessionStorage.removeItem(KEY);
  for (const listener of listeners) listener();
}

/** Call `listener` whenever there is another key. */
export function onKey(listener) {
  listeners.add(listener);
}

/** The subprotocols that carry the key: a browser cannot give a WebSocket headers. */
export function subprotocols() {
  const secret = key();
  if (!secret) return ["ccm.v1"];
  const bytes = new TextEncoder().encode(secret);
  const code = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  return ["ccm.v1", `key.${code}`];
}

async function problem(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // Not from the service itself: a proxy's page, perhaps. Its status says enough.
  }
  return new Problem({ title: response.statusText, ...body, status: response.status });
}

/** A request whose answer is JSON (null when there is none). Asks for a key when one is needed. */
export async function call(method, path, body, { signal } = {}) {
  for (;;) {
    const used = key();
    const headers = { Accept: "application/json" };
    if (used) headers.Authorization = `Bearer ${used}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await fetch(path, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.status === 401) {
      if (used === key()) await askForKey(used !== "");
      continue;
    }
    if (!response.ok) throw await problem(response);
    return response.status === 204 ? null : response.json();
  }
}

export const get = (path, options) => call("GET", path, undefined, options);

/** A path with its query; what is empty is left out. */
export function query(path, parts) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parts)) {
    if (value !== undefined && value !== null && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

/** Show the key prompt, once for all who need it; resolves when there is a key to try. */
export function askForKey(wrong = false) {
  asking ||= prompt(wrong).finally(() => { asking = null; });
  return asking;
}

function prompt(wrong) {
  return new Promise((resolve) => {
    const field = el("input", {
      id: "key-field", type: "password", autocomplete: "off", spellcheck: "false", required: true,
      "aria-describedby": "key-help",
    });
    const dialog = el("dialog", { class: "dialog", "aria-labelledby": "key-title" });
    const submit = (event) => {
      event.preventDefault();
      const value = field.value.trim();
      if (!value) return;
      sessionStorage.setItem(KEY, value);
      dialog.close();
      dialog.remove();
      resolve();
      for (const listener of listeners) listener();
    };
    dialog.append(el("form", { class: "stack", on: { submit } },
      el("h2", { id: "key-title", text: "This service needs a key" }),
      wrong ? el("p", { class: "bad", role: "alert", text: "That key was not accepted." }) : null,
      el("label", { for: "key-field", text: "Key" }), field,
      el("p", {
        id: "key-help", class: "hint",
        text: "It is kept for this browser tab only. Administrators make keys with “ccm keys new”.",
      }),
      el("div", { class: "row end" }, button("Continue", { type: "submit", class: "button primary" }))));
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.body.append(dialog);
    dialog.showModal();
    field.focus();
  });
}
