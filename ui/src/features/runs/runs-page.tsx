import { useNavigate, useSearch } from "@tanstack/react-router";
import { useQueryClient } from "@tanstack/react-query";
import { RotateCcw, X } from "lucide-react";
import { useCallback, useState } from "react";

import { Button } from "@/shared/components/button";
import { Skeleton, Trouble } from "@/shared/components/note";
import { toast, toastError } from "@/shared/components/toasts";

import { cancelRuns, refreshRuns, rerunRuns } from "./api";
import { Filters } from "./filters";
import { useLiveRuns } from "./live-runs";
import { NoRuns } from "./no-runs";
import { RunsTable } from "./runs-table";
import type { RunsSearch } from "./search";
import "./runs.css";

export function RunsPage() {
  const search = useSearch({ from: "/runs" });
  const navigate = useNavigate({ from: "/runs" });
  const [held, setHeld] = useState(false);
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const { query, rows, waiting, release } = useLiveRuns(search, held);
  const setSearch = useCallback(
    (next: RunsSearch) => {
      setSelected(new Set());
      void navigate({ search: next, replace: true });
    },
    [navigate],
  );
  return (
    <div className="page">
      <header className="page-head">
        <h1>Runs</h1>
        <Filters search={search} onChange={setSearch} />
        <span className="grow" />
        {selected.size > 0 && <Actions ids={[...selected]} done={() => setSelected(new Set())} />}
      </header>
      {waiting > 0 && (
        <div className="fresh">
          <Button look="primary" onClick={release}>
            {waiting} new {waiting === 1 ? "run" : "runs"}
          </Button>
        </div>
      )}
      {query.isPending ? (
        <Skeleton lines={12} />
      ) : query.isError && rows.length === 0 ? (
        <Trouble error={query.error} retry={() => void query.refetch()} />
      ) : rows.length === 0 ? (
        <NoRuns filtered={Object.keys(search).length > 0} clear={() => setSearch({})} />
      ) : (
        <RunsTable
          rows={rows}
          selected={selected}
          onSelect={setSelected}
          onHold={setHeld}
          more={query.hasNextPage}
          loadMore={() => {
            if (!query.isFetchingNextPage) void query.fetchNextPage();
          }}
        />
      )}
    </div>
  );
}

function Actions({ ids, done }: { ids: string[]; done: () => void }) {
  const queries = useQueryClient();
  const act = (what: typeof cancelRuns, past: string): void => {
    void what(ids).then(
      (outcomes) => {
        const failed = outcomes.filter((one) => one.problem !== null);
        const good = outcomes.length - failed.length;
        toast(`${good} ${good === 1 ? "run" : "runs"} ${past}`, good ? "ok" : "warn");
        const first = failed[0];
        if (first) toast(`${failed.length} not: ${first.problem}`, "warn");
        done();
        void refreshRuns(queries);
      },
      toastError,
    );
  };
  return (
    <>
      <span>{ids.length} selected</span>
      <Button onClick={() => act(rerunRuns, "started again")}>
        <RotateCcw /> Rerun
      </Button>
      <Button look="danger" onClick={() => act(cancelRuns, "cancelled")}>
        <X /> Cancel
      </Button>
    </>
  );
}
