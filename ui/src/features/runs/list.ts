/** What a list of runs becomes when runs change. Pure, so that it can be tested without a page. */
import type { InfiniteData } from "@tanstack/react-query";

import type { Run, Schemas } from "@/shared/api/client";

import type { RunsSearch } from "./search";

export type RunPages = InfiniteData<Schemas["Runs"], string>;

/** Whether a run belongs into a list, as far as can be told without asking the server. */
export function belongs(run: Run, search: RunsSearch): boolean {
  if (search.status && !search.status.includes(run.status)) return false;
  if (search.function && !search.function.includes(run.function)) return false;
  if (search.app && !search.app.includes(run.app)) return false;
  if (search.since !== undefined && run.queued_at < search.since) return false;
  if (search.until !== undefined && run.queued_at >= search.until) return false;
  if (search.time === "started_at" && run.started_at === null) return false;
  return !(search.time === "ended_at" && run.ended_at === null);
}

/** Rows of a list with what has just changed: known runs are replaced, new ones are put on top. */
export function patched(pages: RunPages, runs: Run[], search: RunsSearch): RunPages {
  const changed = new Map(runs.map((run) => [run.id, run]));
  const next = pages.pages.map((page) => {
    if (!page.runs.some((run) => changed.has(run.id))) return page;
    const kept = page.runs.flatMap((run) => {
      const now = changed.get(run.id);
      changed.delete(run.id);
      if (now === undefined) return [run];
      return belongs(now, search) ? [now] : [];
    });
    return { ...page, runs: kept };
  });
  const fresh = [...changed.values()].filter((run) => belongs(run, search));
  const [first, ...rest] = next;
  if (fresh.length === 0 || first === undefined) return { ...pages, pages: next };
  const newest = first.runs[0];
  // A run from further down that is not loaded yet stays where it is: it comes with its page.
  const above = fresh.filter((run) => newest === undefined || run.id > newest.id);
  above.sort((a, b) => (a.id < b.id ? 1 : -1));
  return { ...pages, pages: [{ ...first, runs: [...above, ...first.runs] }, ...rest] };
}
