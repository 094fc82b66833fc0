// Puts the page together.

import { AlertsPanel, alertChip } from "./alerts.js";
import { Chat } from "./chat.js";
import { ConversationsPanel } from "./conversations.js";
import { el, say } from "./dom.js";
import { Feed } from "./feed.js";
import { LettersPanel } from "./letters.js";
import { LivePanel } from "./live.js";
import { ServicesPanel } from "./services.js";
import { SettingsPanel } from "./settings.js";
import { Tabs } from "./tabs.js";
import { themeButton } from "./theme.js";

const feed = new Feed();
const chat = new Chat(() => feed.kept());
const dock = document.getElementById("dock");
const chatPanel = el("section", {});

const live = new LivePanel(feed);
const conversations = new ConversationsPanel(feed, (id) => {
  if (dock.hidden) tabs.open("chat");
  chat.open(id);
});
const letters = new LettersPanel(feed, (id) => {
  location.hash = `#conversations/${encodeURIComponent(id)}`;
});
const alerts = new AlertsPanel(feed);
const services = new ServicesPanel(feed);
const settings = new SettingsPanel();

function section(name, title, glyph, view) {
  return { name, title, glyph, panel: view.panel, show: () => view.show?.(), hide: () => view.hide?.() };
}

const tabs = new Tabs(document.getElementById("tabs"), document.getElementById("main"), [
  section("live", "Live", "live", live),
  section("chat", "Chat", "chat", { panel: chatPanel }),
  section("conversations", "Conversations", "conversations", conversations),
  section("letters", "Dead letters", "letters", letters),
  section("alerts", "Alerts", "alerts", alerts),
  section("services", "Services", "services", services),
  section("settings", "Settings", "settings", settings),
]);

document.getElementById("bar-tools").append(alertChip(feed, () => tabs.open("alerts", { focus: true })), themeButton());

// Where there is room, the chat stands beside everything else; elsewhere it is a section of its own.
const roomy = matchMedia("(min-width: 1280px)");
function place() {
  dock.hidden = !roomy.matches;
  (roomy.matches ? dock : chatPanel).append(chat.node);
  tabs.toggle("chat", !roomy.matches);
}
roomy.addEventListener("change", place);
place();

feed.addEventListener("health", () => {
  const { state, text } = feed.health;
  document.getElementById("health").dataset.state = state;
  say(document.getElementById("health-text"), text);
});
feed.addEventListener("statistics", () => {
  tabs.badge("letters", feed.statistics.dead_letters, "dead letters", "warn");
  tabs.badge("services", (feed.statistics.bottlenecks ?? []).length, "services hold others up", "bad");
});
feed.addEventListener("alerts", () => {
  const critical = feed.alerts.some((alert) => alert.level === "critical");
  tabs.badge("alerts", feed.alerts.length, "alerts", critical ? "bad" : "warn");
});

tabs.open(tabs.fromAddress());
feed.start();
chat.start();
