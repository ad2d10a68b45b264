import { queryOptions } from "@tanstack/react-query";

import { answered, client } from "./client";

/** The server itself: its version, its clock, how much it serves. */
export const serverQuery = queryOptions({
  queryKey: ["server"],
  queryFn: () => answered(client.GET("/api/server")),
});
