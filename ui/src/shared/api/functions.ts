import { queryOptions } from "@tanstack/react-query";

import { answered, client } from "./client";

/** All functions that are served. */
export const functionsQuery = queryOptions({
  queryKey: ["functions"],
  queryFn: () => answered(client.GET("/api/functions")),
});

/** One function with its configuration. */
export function functionQuery(slug: string) {
  return queryOptions({
    queryKey: ["functions", slug],
    queryFn: () => answered(client.GET("/api/functions/{slug}", { params: { path: { slug } } })),
  });
}
