// Sections as tabs (the ARIA pattern: arrows move, Home and End jump, one tab stop), kept in the address.

import { el, icon } from "./dom.js";

export class Tabs {
  /** `sections`: [{ name, title, glyph, panel, show?, hide? }]. */
  constructor(list, main, sections) {
    this.sections = new Map(sections.map((section) => [section.name, section]));
    this.list = list;
    this.current = null;
    for (const section of sections) {
      section.badge = el("span", { class: "badge", hidden: true });
      section.tab = el("button", {
        type: "button", role: "tab", id: `tab-${section.name}`, class: "tab",
        "aria-controls": `panel-${section.name}`, "aria-selected": "false", tabindex: "-1",
        on: { click: () => this.open(section.name) },
      }, icon(section.glyph), el("span", { class: "tab-text", text: section.title }), section.badge);
      Object.assign(section.panel, { id: `panel-${section.name}`, hidden: true, tabIndex: -1 });
      section.panel.setAttribute("role", "tabpanel");
      section.panel.setAttribute("aria-labelledby", `tab-${section.name}`);
      section.panel.classList.add("panel");
      list.append(section.tab);
      main.append(section.panel);
    }
    list.addEventListener("keydown", (event) => this.#key(event));
    addEventListener("hashchange", () => this.open(this.fromAddress(), { focus: false }));
    const wide = matchMedia("(min-width: 1000px)");
    const turn = () => list.setAttribute("aria-orientation", wide.matches ? "vertical" : "horizontal");
    wide.addEventListener("change", turn);
    turn();
  }

  fromAddress() {
    const name = location.hash.slice(1).split("/")[0];
    const section = this.sections.get(name);
    return section && !section.tab.hidden ? name : "live";
  }

  open(name, { focus = false } = {}) {
    const section = this.sections.get(name);
    if (!section || section.tab.hidden) return;
    if (this.current !== section) {
      if (this.current) {
        this.current.panel.hidden = true;
        this.current.tab.setAttribute("aria-selected", "false");
        this.current.tab.tabIndex = -1;
        this.current.hide?.();
      }
      this.current = section;
      section.panel.hidden = false;
      section.tab.setAttribute("aria-selected", "true");
      section.tab.tabIndex = 0;
      if (location.hash.slice(1).split("/")[0] !== name) history.replaceState(null, "", `#${name}`);
      // Not scrollIntoView: in some browsers that moves the place that the Tab key starts from.
      this.list.scrollLeft = section.tab.offsetLeft - (this.list.clientWidth - section.tab.offsetWidth) / 2;
      section.show?.();
    }
    if (focus) section.tab.focus();
  }

  /** Take a tab away (its content is elsewhere), or give it back. */
  toggle(name, there) {
    const section = this.sections.get(name);
    section.tab.hidden = !there;
    if (!there && this.current === section) this.open("live");
  }

  /** A small number on a tab; 0 is none. `words` says what it counts. */
  badge(name, number, words, level = "") {
    const { badge } = this.sections.get(name);
    badge.hidden = !number;
    badge.dataset.level = level;
    const text = number > 999 ? "999+" : String(number);
    if (badge.dataset.text === text) return;
    badge.dataset.text = text;
    badge.replaceChildren(text, el("span", { class: "sr-only", text: ` ${words}` }));
  }

  #key(event) {
    const tabs = [...this.sections.values()].filter((section) => !section.tab.hidden);
    const at = tabs.indexOf(this.current);
    const to = {
      ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: tabs.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.open(tabs[(to + tabs.length) % tabs.length].name, { focus: true });
  }
}
