import { type InfiniteData, infiniteQueryOptions, queryOptions } from "@tanstack/react-query";

import { answered, client, type Schemas } from "@/shared/api/client";

export interface EventsSearch {
  name?: string;
  internal?: boolean;
}
export type EventPages = InfiniteData<Schemas["Events"], string>;

/** Events, newest first, page by page. */
export function eventsQuery(search: EventsSearch) {
  return infiniteQueryOptions({
    queryKey: ["events", search],
    initialPageParam: "",
    queryFn: ({ pageParam, signal }) =>
      answered(
        client.GET("/api/events", {
          params: { query: { ...search, ...(pageParam && { cursor: pageParam }), limit: 100 } },
          signal,
        }),
      ),
    getNextPageParam: (last) => last.cursor ?? undefined,
  });
}

/** One event, the runs that it started, and what else it did. */
export function eventQuery(eventId: string) {
  return queryOptions({
    queryKey: ["event", eventId],
    queryFn: ({ signal }) =>
      answered(client.GET("/api/events/{event_id}", { params: { path: { event_id: eventId } }, signal })),
  });
}
