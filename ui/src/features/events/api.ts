import { type InfiniteData, infiniteQueryOptions, queryOptions } from "@tanstack/react-query";

import { answered, client, type EventShown, type Schemas } from "@/shared/api/client";

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

/** The event that one begins with when there is none to go by. */
export const FIRST = JSON.stringify({ name: "app/greeted", data: { name: "you" } }, null, 2);

/** An event as JSON text to be sent again: without its id, since a known id starts nothing. */
export function again(event: EventShown): string {
  const { name, data, user } = event.payload as { name: string; data?: unknown; user?: unknown };
  return JSON.stringify({ name, data: data ?? {}, ...(user !== undefined && { user }) }, null, 2);
}
