import { infiniteQueryOptions, type QueryClient } from "@tanstack/react-query";

import { answered, client } from "@/shared/api/client";

import { type RunsSearch, SPANS } from "./search";

const PAGE = 100;

/** The runs of a search, page by page. */
export function runsQuery(search: RunsSearch) {
  return infiniteQueryOptions({
    queryKey: ["runs", search],
    initialPageParam: "",
    queryFn: ({ pageParam, signal }) =>
      answered(
        client.GET("/api/runs", {
          params: {
            query: {
              ...(search.status && { status: search.status }),
              ...(search.function && { function: search.function }),
              ...(search.app && { app: search.app }),
              ...(search.time && { time: search.time }),
              ...(search.span && { since: Date.now() - SPANS[search.span].ms }),
              ...(pageParam && { cursor: pageParam }),
              limit: PAGE,
            },
          },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.cursor ?? undefined,
  });
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
