import { useCallback, useEffect, useRef, useState } from "react";

import type { Run } from "@/shared/api/client";

import { searchRuns } from "./api";
import type { RunsSearch } from "./search";

/** So many hits are looked for before one has to ask for more. */
const ENOUGH = 100;

export interface Searching {
  runs: Run[];
  tried: number;
  /** The time (ms) of the last run that was tried. */
  reached: number | null;
  state: "busy" | "stopped" | "done";
  error: Error | null;
  stop: () => void;
  goOn: () => void;
}

const NOTHING = { runs: [] as Run[], tried: 0, reached: null as number | null };

/** A search through payloads and outputs: newest first, slice by slice, until it is stopped or has found enough. */
export function useRunSearch(search: RunsSearch): Searching | null {
  const query = search.query;
  const [found, setFound] = useState(NOTHING);
  const [state, setState] = useState<Searching["state"]>("busy");
  const [error, setError] = useState<Error | null>(null);
  const cursor = useRef<string | null>("");
  const abort = useRef<AbortController>(undefined);

  const look = useCallback(async () => {
    if (query === undefined) return;
    abort.current?.abort();
    const { signal } = (abort.current = new AbortController());
    setState("busy");
    setError(null);
    let hits = 0;
    try {
      while (cursor.current !== null && hits < ENOUGH) {
        const slice = await searchRuns(search, query, cursor.current, signal);
        cursor.current = slice.cursor;
        hits += slice.runs.length;
        setFound((old) => ({
          runs: [...old.runs, ...slice.runs],
          tried: old.tried + slice.tried,
          reached: slice.reached ?? old.reached,
        }));
      }
      setState(cursor.current === null ? "done" : "stopped");
    } catch (problem) {
      if (signal.aborted) return;
      setError(problem as Error);
      setState("stopped");
    }
  }, [search, query]);

  useEffect(() => {
    cursor.current = "";
    // A new question begins with nothing found.
    // eslint-disable-next-line react-hooks/set-state-in-effect
    setFound(NOTHING);
    void look();
    return () => abort.current?.abort();
  }, [look]);

  if (query === undefined) return null;
  return {
    ...found,
    state,
    error,
    stop: () => {
      abort.current?.abort();
      setState("stopped");
    },
    goOn: () => void look(),
  };
}
