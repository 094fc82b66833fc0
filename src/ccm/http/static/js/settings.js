// The effective settings, and what this browser keeps.

import { forgetKey, get, key } from "./api.js";
import { button, el, toast } from "./dom.js";

export class SettingsPanel {
  constructor() {
    this.filter = el("input", { class: "field", type: "search", id: "settings-filter", placeholder: "Name or value…", on: { input: () => this.#filter() } });
    this.groups = el("div", { class: "grid two" });
    this.note = el("p", { class: "empty", role: "status" });
    this.about = el("p", { class: "hint" });
    this.panel = el("section", {},
      el("div", { class: "panel-head" }, el("h2", { text: "Settings" }), this.about,
        el("div", { class: "row" }, el("label", { for: "settings-filter", text: "find" }), this.filter)),
      this.groups, this.note);
  }

  async show() {
    try {
      const { config, http, routes, version } = await get("/api/v1/settings");
      this.about.textContent = `ccm ${version} · routes: ${routes.join(", ")}`;
      this.groups.replaceChildren(group("Manager", config), el("div", { class: "stack" }, group("Front end", http), this.#browser()));
      this.note.textContent = "";
      this.#filter();
    } catch (error) {
      this.groups.replaceChildren(this.#browser());
      this.note.textContent = error.message;
    }
  }

  #browser() {
    const held = key();
    const forget = button("Forget the key", { glyph: "key", class: "button small", disabled: !held, run: () => {
      forgetKey();
      forget.disabled = true;
      toast("The key is forgotten.");
    } });
    return el("section", { class: "card" }, el("h3", { text: "This browser" }),
      el("p", { class: "hint", text: held ? "A key is kept for this tab until it is closed." : "No key is kept." }), forget);
  }

  #filter() {
    const text = this.filter.value.trim().toLowerCase();
    for (const row of this.groups.querySelectorAll(".fact")) row.hidden = !row.textContent.toLowerCase().includes(text);
  }
}

function group(title, settings) {
  return el("section", { class: "card" }, el("h3", { text: title }),
    el("dl", { class: "facts settings" }, flat(settings ?? {}).map(([name, value]) => el("div", { class: "fact" }, el("dt", { text: name }), el("dd", { text: value })))));
}

function flat(object, prefix = "") {
  return Object.entries(object).flatMap(([name, value]) => {
    const plain = value === null || typeof value !== "object" || Array.isArray(value);
    if (!plain && Object.keys(value).length) return flat(value, `${prefix}${name}.`);
    return [[prefix + name, shown(value)]];
  });
}

function shown(value) {
  if (value === null || value === undefined) return "off";
  if (value === true || value === false) return value ? "yes" : "no";
  if (Array.isArray(value)) return value.length ? value.map(shown).join(", ") : "none";
  return typeof value === "object" ? "none" : String(value);
}
