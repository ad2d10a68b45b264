import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";

import type { RunDetail, Schemas } from "@/shared/api/client";

import { logsQuery } from "./api";

export type Progress = ReadonlyMap<string, Schemas["Progress"]>;
const NONE: Progress = new Map();

/** How far the steps of a run are by their own word, by the steps' ids. */
export function useProgress(runId: string, detail: RunDetail | undefined): Progress {
  const logs = useQuery({ ...logsQuery(runId, null), enabled: detail !== undefined });
  return useMemo(() => (logs.data ? new Map(logs.data.steps.map((one) => [one.step_id, one])) : NONE), [logs.data]);
}
