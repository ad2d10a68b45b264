import { keepPreviousData, queryOptions } from "@tanstack/react-query";

import { answered, client, type Schemas } from "./client";

export type Metrics = Schemas["Metrics"];

/** Charts are read again so often while they are shown: they are sums, which are written once a second. */
export const REREAD_MS = 5000;

export const PERIODS = {
  "1h": { label: "Last hour", ms: 3_600_000 },
  "6h": { label: "Last 6 hours", ms: 6 * 3_600_000 },
  "24h": { label: "Last 24 hours", ms: 86_400_000 },
  "7d": { label: "Last 7 days", ms: 7 * 86_400_000 },
  "30d": { label: "Last 30 days", ms: 30 * 86_400_000 },
} as const;
export type Period = keyof typeof PERIODS;

export interface MetricsSearch {
  period?: Period;
  since?: number;
  until?: number;
  function?: string[];
  app?: string[];
}

/** What happened over time, of all functions or of some. */
export function metricsQuery(search: MetricsSearch) {
  return queryOptions({
    queryKey: ["metrics", search],
    placeholderData: keepPreviousData,
    queryFn: ({ signal }) => {
      const until = search.until ?? Date.now();
      const since = search.since ?? until - PERIODS[search.period ?? "24h"].ms;
      return answered(
        client.GET("/api/metrics", {
          params: {
            query: {
              since,
              until,
              ...(search.function && { function: search.function }),
              ...(search.app && { app: search.app }),
            },
          },
          signal,
        }),
      );
    },
  });
}

/** How each function has been doing in the last day. */
export const healthQuery = queryOptions({
  queryKey: ["health"],
  queryFn: () => answered(client.GET("/api/health")),
});
