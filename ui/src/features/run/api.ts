import { queryOptions } from "@tanstack/react-query";

import { answered, client, type Schemas } from "@/shared/api/client";

export type Result = Schemas["Result"];

/** One run with its trace. */
export function runQuery(runId: string) {
  return queryOptions({
    queryKey: ["run", runId],
    queryFn: ({ signal }) => answered(client.GET("/api/runs/{run_id}", { params: { path: { run_id: runId } }, signal })),
  });
}

/** A result that a trace names. It stays as it is, but for the end of the run. */
export function resultQuery(output: string, ended: number | null) {
  return queryOptions({
    queryKey: ["result", output, ended],
    queryFn: ({ signal }) => answered(client.GET("/api/results/{output}", { params: { path: { output } }, signal })),
  });
}

/** What the steps of a run have logged (or one of them), and how far they are. */
export function logsQuery(runId: string, step: string | null) {
  return queryOptions({
    queryKey: ["run", runId, "logs", step],
    queryFn: ({ signal }) =>
      answered(
        client.GET("/api/runs/{run_id}/logs", {
          params: { path: { run_id: runId }, query: step === null ? {} : { step } },
          signal,
        }),
      ),
  });
}

export interface Why {
  text: string;
  next_at?: string | null;
}

/** Why a run waits, in a sentence. */
export function whyQuery(runId: string) {
  return queryOptions({
    queryKey: ["run", runId, "why"],
    queryFn: async ({ signal }) => {
      const found = await answered(
        client.GET("/api/runs/{run_id}/why", { params: { path: { run_id: runId } }, signal }),
      );
      return found.why as unknown as Why;
    },
  });
}

export function cancelRun(runId: string) {
  return answered(client.POST("/api/runs/cancel", { body: { run_ids: [runId] } }));
}

export function rerunRun(runId: string, fromStep?: string, input?: unknown) {
  return answered(
    client.POST("/api/runs/{run_id}/rerun", {
      params: { path: { run_id: runId } },
      body: { ...(fromStep !== undefined && { from_step: fromStep }), ...(input !== undefined && { input }) },
    }),
  );
}
