import { infiniteQueryOptions, type QueryClient } from "@tanstack/react-query";

import { answered, client } from "@/shared/api/client";

import { type RunsSearch, SPANS } from "./search";

const PAGE = 100;

/** A search as the server takes it. */
function asQuery(search: RunsSearch) {
  const since = search.since ?? (search.span && Date.now() - SPANS[search.span].ms);
  return {
    ...(search.status && { status: search.status }),
    ...(search.function && { function: search.function }),
    ...(search.app && { app: search.app }),
    ...(search.time && { time: search.time }),
    ...(since !== undefined && { since }),
    ...(search.until !== undefined && { until: search.until }),
    limit: PAGE,
  };
}

/** The runs of a search without an expression, page by page. */
export function runsQuery(search: RunsSearch) {
  return infiniteQueryOptions({
    queryKey: ["runs", search],
    initialPageParam: "",
    queryFn: ({ pageParam, signal }) =>
      answered(
        client.GET("/api/runs", {
          params: { query: { ...asQuery(search), ...(pageParam && { cursor: pageParam }) } },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.cursor ?? undefined,
  });
}

/** Look through the next runs of a search with an expression, for a second at most. */
export function searchRuns(search: RunsSearch, query: string, cursor: string, signal: AbortSignal) {
  return answered(
    client.GET("/api/runs/search", {
      params: { query: { ...asQuery(search), query, ...(cursor && { cursor }) } },
      signal,
    }),
  );
}

export async function cancelRuns(ids: string[]) {
  return (await answered(client.POST("/api/runs/cancel", { body: { run_ids: ids } }))).outcomes;
}

export async function rerunRuns(ids: string[]) {
  return (await answered(client.POST("/api/runs/rerun", { body: { run_ids: ids } }))).outcomes;
}

export function refreshRuns(queries: QueryClient): Promise<void> {
  return queries.invalidateQueries({ queryKey: ["runs"] });
}
