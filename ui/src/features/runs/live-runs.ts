import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useMemo, useRef, useState } from "react";

import type { Run } from "@/shared/api/client";
import { useLive } from "@/shared/api/live";

import { runsQuery } from "./api";
import { belongs, patched, type RunPages } from "./list";
import type { RunsSearch } from "./search";

const REREAD_MS = 1000;

/**
 * The runs of a search, kept up to date.
 *
 * While `held` (somebody reads further down), new runs are counted and not shown, so that nothing moves under
 * the eye; changes of runs that are shown come at once all the same.
 */
export function useLiveRuns(search: RunsSearch, held: boolean) {
  const queries = useQueryClient();
  const options = useMemo(() => runsQuery(search), [search]);
  const query = useInfiniteQuery(options);
  const [waiting, setWaiting] = useState<ReadonlyMap<string, Run>>(new Map());
  const rereadAt = useRef(0);

  const apply = useCallback(
    (runs: Run[]) => {
      queries.setQueryData<RunPages>(options.queryKey, (pages) => pages && patched(pages, runs, search));
    },
    [queries, options, search],
  );

  useLive((news) => {
    if (news === "resync" || news.more) {
      const wait = Math.max(0, rereadAt.current - Date.now());
      rereadAt.current = Date.now() + wait + REREAD_MS;
      setTimeout(() => void queries.invalidateQueries({ queryKey: options.queryKey }), wait);
      return;
    }
    if (news.runs.length === 0) return;
    if (!held) {
      apply(news.runs);
      return;
    }
    const shown = new Set(query.data?.pages.flatMap((page) => page.runs.map((run) => run.id)));
    const known = news.runs.filter((run) => shown.has(run.id));
    if (known.length > 0) apply(known);
    const fresh = news.runs.filter((run) => !shown.has(run.id) && belongs(run, search));
    if (fresh.length > 0) setWaiting((map) => new Map([...map, ...fresh.map((run) => [run.id, run] as const)]));
  });

  const release = useCallback(() => {
    apply([...waiting.values()]);
    setWaiting(new Map());
  }, [apply, waiting]);

  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.runs) ?? [], [query.data]);
  return { query, rows, waiting: waiting.size, release };
}
