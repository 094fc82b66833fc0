// What the panels show, fetched again and again: statistics, trends, alerts. Rests while nobody looks.

import { Problem, get, onKey } from "./api.js";

export const CLASSES = ["CRITICAL", "HIGH", "NORMAL", "LOW"];
export const OUTCOMES = ["replied", "merged", "superseded", "cancelled", "expired", "shed", "rejected", "failed"];

const PERIOD = 2000; // milliseconds between two looks; far below the rate limit of a key
const MINUTE_PERIOD = 20000;
const SAMPLES = 300;
const MINUTES = 1440;

/** Polls; tells its listeners: "statistics", "trends", "alerts", "health". */
export class Feed extends EventTarget {
  constructor() {
    super();
    this.statistics = null;
    this.trends = new Map(); // step: what `normalise` made
    this.alerts = null;
    this.samples = new Samples();
    this.step = 1;
    this.health = { state: "starting", text: "connecting…" };
    this.failures = 0;
    this.minutesAt = 0;
    this.timer = null;
    this.busy = false;
    document.addEventListener("visibilitychange", () => this.#wake());
    onKey(() => this.#wake());
  }

  start() {
    this.#wake();
  }

  /** Whether conversations are kept, as soon as that is known; for a key that may not look, perhaps. */
  async kept() {
    while (!this.statistics && this.health.state !== "limited") {
      await new Promise((resolve) => {
        for (const event of ["statistics", "health"]) this.addEventListener(event, resolve, { once: true });
      });
    }
    return !this.statistics || this.statistics.storage?.durable !== undefined;
  }

  /** Which rows the plots show: 1 (five minutes) or 60 (a day). */
  show(step) {
    this.step = step;
    this.minutesAt = 0;
    this.#wake();
  }

  /** Look now, not at the next beat. */
  refresh() {
    this.#wake();
  }

  #wake() {
    clearTimeout(this.timer);
    if (!document.hidden && !this.busy) this.#look();
  }

  async #look() {
    this.busy = true;
    let pause = PERIOD;
    try {
      await this.#fetch();
      this.failures = 0;
    } catch (error) {
      this.failures += 1;
      pause = Math.min(15000, PERIOD * 2 ** Math.min(4, this.failures));
      if (error instanceof Problem) {
        if (error.wait) pause = Math.max(pause, 1000 * error.wait);
        if (error.status === 403) pause = 60000;
        this.#tell(error.status === 403 ? "limited" : "bad", error.status === 403
          ? "figures are not for this key" : `the service says: ${error.message}`);
      } else {
        this.#tell("offline", "no connection; trying again");
      }
    } finally {
      this.busy = false;
    }
    clearTimeout(this.timer);
    if (!document.hidden) this.timer = setTimeout(() => this.#look(), pause);
  }

  async #fetch() {
    const minute = this.step === 60;
    const due = !minute || Date.now() - this.minutesAt > MINUTE_PERIOD;
    const [statistics, trends, alerts, ready] = await Promise.all([
      get("/api/v1/statistics"), due ? get(`/api/v1/trends?step=${this.step}`) : null, get("/api/v1/alerts"),
      readiness(),
    ]);
    this.statistics = statistics;
    this.samples.take(statistics);
    this.alerts = alerts.items;
    if (trends) {
      this.trends.set(trends.step ?? this.step, normalise(trends));
      if (minute) this.minutesAt = Date.now();
    }
    this.#tell(...ready);
    for (const what of ["statistics", "trends", "alerts"]) this.dispatchEvent(new Event(what));
  }

  #tell(state, text) {
    if (this.health.state === state && this.health.text === text) return;
    this.health = { state, text };
    this.dispatchEvent(new Event("health"));
  }
}

async function readiness() {
  const response = await fetch("/readyz");
  const { status } = await response.json();
  if (status === "ready") return ["ready", "ready"];
  if (status === "draining") return ["draining", "shutting down"];
  return ["bad", status === "storage" ? "the storage fails" : status];
}

/** The columns of a trends answer with times by the wall clock, and the seconds in a row. */
export function normalise(trends) {
  const columns = trends.columns ?? trends;
  return { step: trends.step, ...columns };
}

/** What the trend rings do not have, taken from the statistics: kept since this page was opened. */
export class Samples {
  constructor() {
    this.rows = [];
    this.minutes = [];
    this.last = null;
  }

  take(statistics) {
    const now = Date.now() / 1000;
    const row = { at: now, lag: statistics.storage?.lag ?? null, hit: null, handling: {} };
    const { last } = this;
    const lookups = (cache) => (cache ? cache.hits + cache.misses + cache.coalesced : 0);
    if (last && statistics.received >= last.received) {
      const fresh = lookups(statistics.cache) - lookups(last.cache);
      if (fresh > 0) row.hit = 1 - (statistics.cache.misses - last.cache.misses) / fresh;
      for (const name of CLASSES) row.handling[name] = meanSince(last.service?.[name], statistics.service?.[name]);
    }
    this.last = statistics;
    this.rows.push(row);
    if (this.rows.length > SAMPLES) this.rows.shift();
    const minute = Math.floor(now / 60);
    if (this.minutes.at(-1)?.minute !== minute) this.minutes.push({ ...row, minute });
    if (this.minutes.length > MINUTES) this.minutes.shift();
  }

  /** [times, one column for each function]. */
  columns(step, ...picks) {
    const rows = step === 1 ? this.rows : this.minutes;
    return [rows.map((row) => row.at), ...picks.map((pick) => rows.map(pick))];
  }
}

function meanSince(before, after) {
  if (!before || !after || after.count <= before.count || after.mean === undefined) return null;
  return (after.mean * after.count - before.mean * before.count) / (after.count - before.count);
}
