/** Times and durations as people read them. All input is in milliseconds. */

export type Zone = "local" | "utc";

const UNITS: [number, string][] = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1000, "s"],
];

/** A length of time in its two largest units: `350 ms`, `1.2 s`, `4 min 12 s`, `3 d 2 h`. */
export function formatDuration(ms: number): string {
  const whole = Math.max(0, Math.round(ms));
  if (whole < 1000) return `${whole} ms`;
  if (whole < 10_000) return `${(whole / 1000).toFixed(2).replace(/\.?0+$/, "")} s`;
  if (whole < 60_000) return `${(whole / 1000).toFixed(1).replace(/\.0$/, "")} s`;
  const index = UNITS.findIndex(([size]) => whole >= size);
  const [size, unit] = UNITS[index] ?? [1000, "s"];
  const next = UNITS[index + 1];
  const first = `${Math.floor(whole / size)} ${unit}`;
  if (next === undefined) return first;
  const rest = Math.floor((whole % size) / next[0]);
  return rest === 0 ? first : `${first} ${rest} ${next[1]}`;
}

/** How long ago, or how soon: `just now`, `12 s ago`, `in 3 h`. */
export function formatRelative(at: number, now: number): string {
  const apart = now - at;
  const size = Math.abs(apart);
  if (size < 1000) return "just now";
  const [unitSize, unit] = UNITS.find(([length]) => size >= length) ?? [1000, "s"];
  const text = `${Math.floor(size / unitSize)} ${unit}`;
  return apart > 0 ? `${text} ago` : `in ${text}`;
}

const PARTS: Intl.DateTimeFormatOptions = {
  year: "numeric",
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
};

/** The exact time: `24 Nov 2026, 18:30:05.123` with the zone's name. */
export function formatExact(at: number, zone: Zone): string {
  const options = zone === "utc" ? { ...PARTS, timeZone: "UTC" } : PARTS;
  const text = new Intl.DateTimeFormat("en-GB", options).format(at);
  const ms = String(at % 1000).padStart(3, "0");
  const name = zone === "utc" ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone;
  return `${text}.${ms} ${name}`;
}

/** The time of day, with the date if it is not today's. */
export function formatClock(at: number, now: number, zone: Zone): string {
  const base: Intl.DateTimeFormatOptions = zone === "utc" ? { timeZone: "UTC" } : {};
  const day = (when: number): string => new Intl.DateTimeFormat("en-CA", base).format(when);
  const time = new Intl.DateTimeFormat("en-GB", {
    ...base,
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hour12: false,
  }).format(at);
  if (day(at) === day(now)) return time;
  const date = new Intl.DateTimeFormat("en-GB", { ...base, day: "numeric", month: "short" }).format(at);
  return `${date} ${time}`;
}
