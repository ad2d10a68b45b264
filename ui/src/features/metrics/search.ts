import { type MetricsSearch, PERIODS, type Period } from "@/shared/api/metrics";

/** Reads the address of charts; what is not understood is left out. */
export function readMetricsSearch(given: Record<string, unknown>): MetricsSearch {
  const search: MetricsSearch = {};
  if (typeof given["period"] === "string" && given["period"] in PERIODS) search.period = given["period"] as Period;
  const { since, until } = given;
  if (typeof since === "number" && typeof until === "number" && since < until) {
    search.since = since;
    search.until = until;
  }
  return search;
}
