/** What the list of runs shows, as it stands in the address. */

export const STATUSES = ["QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED"] as const;
export type RunStatus = (typeof STATUSES)[number];

export const SPANS = {
  "15m": { label: "Last 15 minutes", ms: 900_000 },
  "1h": { label: "Last hour", ms: 3_600_000 },
  "24h": { label: "Last 24 hours", ms: 86_400_000 },
  "7d": { label: "Last 7 days", ms: 7 * 86_400_000 },
  "30d": { label: "Last 30 days", ms: 30 * 86_400_000 },
} as const;
export type Span = keyof typeof SPANS;

export interface RunsSearch {
  status?: RunStatus[];
  function?: string[];
  app?: string[];
  span?: Span;
  time?: "started_at" | "ended_at";
  /** A time that was chosen exactly, in ms since the epoch; it takes the place of `span`. */
  since?: number;
  until?: number;
  /** A CEL expression over `event` and `output`. */
  query?: string;
}

function texts(given: unknown): string[] {
  const list: unknown[] = Array.isArray(given) ? given : given === undefined ? [] : [given];
  return list.filter((one): one is string => typeof one === "string" && one !== "");
}

/** Reads an address that may be old or typed by hand: what is not understood is left out. */
export function readRunsSearch(given: Record<string, unknown>): RunsSearch {
  const search: RunsSearch = {};
  const status = texts(given["status"]).filter((one): one is RunStatus => STATUSES.includes(one as RunStatus));
  const functions = texts(given["function"]);
  const apps = texts(given["app"]);
  if (status.length > 0) search.status = status;
  if (functions.length > 0) search.function = functions;
  if (apps.length > 0) search.app = apps;
  if (typeof given["span"] === "string" && given["span"] in SPANS) search.span = given["span"] as Span;
  if (given["time"] === "started_at" || given["time"] === "ended_at") search.time = given["time"];
  const { since, until, query } = given;
  if (typeof since === "number") search.since = since;
  if (typeof until === "number") search.until = until;
  if (typeof query === "string" && query.trim() !== "") search.query = query;
  return search;
}
