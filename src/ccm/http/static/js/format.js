// Numbers and times as people read them.

const NONE = "–";

export function count(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 10000) return String(Math.round(value));
  if (value < 1e6) return `${(value / 1e3).toFixed(value < 1e5 ? 1 : 0)}k`;
  return `${(value / 1e6).toFixed(1)}M`;
}

export function rate(value) {
  if (value === null || value === undefined) return NONE;
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(value ? 2 : 0);
}

/** Seconds, as short as can be: 340 ms, 2.4 s, 3 min, 2 h. */
export function seconds(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  if (value === 0) return "0 s";
  if (value < 0.001) return `${Math.max(1, Math.round(value * 1e6))} µs`;
  if (value < 0.9995) return `${(value * 1e3).toFixed(value < 0.01 ? 1 : 0)} ms`;
  if (value < 100) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return value < 129600 ? `${(value / 3600).toFixed(1)} h` : `${(value / 86400).toFixed(1)} d`;
}

/** Whole seconds to wait, in words. */
export function wait(value) {
  const whole = Math.max(1, Math.ceil(value));
  return whole < 120 ? `${whole} second${whole === 1 ? "" : "s"}` : `${Math.ceil(whole / 60)} minutes`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB"];
  let at = 0;
  let rest = value;
  while (rest >= 1024 && at < units.length - 1) { rest /= 1024; at += 1; }
  return `${rest.toFixed(rest < 10 && at ? 1 : 0)} ${units[at]}`;
}

export function percent(value) {
  if (value === null || value === undefined) return NONE;
  const shown = 100 * value;
  return `${shown.toFixed(shown > 99 && shown < 100 ? 1 : 0)} %`;
}

/** A time as ISO text (or seconds since 1970): the hour today, the date before. */
export function when(value) {
  if (value === null || value === undefined || value === "") return NONE;
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  if (Number.isNaN(date.getTime())) return NONE;
  const today = new Date().toDateString() === date.toDateString();
  const hour = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  return today ? hour : `${date.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" })} ${hour}`;
}

/** How long ago. */
export function ago(value) {
  const then = typeof value === "number" ? value * 1000 : Date.parse(value);
  if (Number.isNaN(then)) return NONE;
  const passed = Math.max(0, (Date.now() - then) / 1000);
  return passed < 3 ? "now" : `${seconds(passed < 60 ? Math.round(passed) : passed).replace(/\.0 s$/, " s")} ago`;
}
