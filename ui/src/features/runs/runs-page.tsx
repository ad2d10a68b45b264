import { useNavigate, useSearch } from "@tanstack/react-router";
import { useQueryClient } from "@tanstack/react-query";
import { RotateCcw, X } from "lucide-react";
import { useCallback, useState } from "react";

import { Button } from "@/shared/components/button";
import { At } from "@/shared/components/clock";
import { Skeleton, Trouble } from "@/shared/components/note";
import { toast, toastError } from "@/shared/components/toasts";

import { cancelRuns, refreshRuns, rerunRuns } from "./api";
import { Filters } from "./filters";
import { Histogram } from "./histogram";
import { useLiveRuns } from "./live-runs";
import { NoRuns } from "./no-runs";
import { RunsTable } from "./runs-table";
import { readRunsSearch, type RunsSearch } from "./search";
import { SearchBox } from "./search-box";
import { Views } from "./views";
import { type Searching, useRunSearch } from "./use-search";
import "./runs.css";

export function RunsPage() {
  const search = useSearch({ from: "/runs" });
  const navigate = useNavigate({ from: "/runs" });
  const [held, setHeld] = useState(false);
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const live = useLiveRuns(search, held);
  const searching = useRunSearch(search);
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
        <SearchBox query={search.query} onChange={(query) => setSearch(readRunsSearch({ ...search, query }))} />
        <span className="grow" />
        <Views search={search} onChoose={setSearch} />
        {selected.size > 0 && <Actions ids={[...selected]} done={() => setSelected(new Set())} />}
      </header>
      <Histogram
        search={search}
        onZoom={(since, until) => setSearch(readRunsSearch({ ...search, span: undefined, since, until }))}
      />
      {searching ? (
        <>
          <SearchState searching={searching} />
          {searching.runs.length > 0 && (
            <RunsTable
              rows={searching.runs}
              selected={selected}
              onSelect={setSelected}
              onHold={setHeld}
              more={false}
              loadMore={nothing}
            />
          )}
        </>
      ) : (
        <LiveRuns
          live={live}
          filtered={Object.keys(search).length > 0}
          clear={() => setSearch({})}
          selected={selected}
          onSelect={setSelected}
          onHold={setHeld}
        />
      )}
    </div>
  );
}

function nothing(): void {
  // A search brings its runs by itself.
}

interface LiveProps {
  live: ReturnType<typeof useLiveRuns>;
  filtered: boolean;
  clear: () => void;
  selected: ReadonlySet<string>;
  onSelect: (ids: ReadonlySet<string>) => void;
  onHold: (held: boolean) => void;
}

function LiveRuns({ live, filtered, clear, selected, onSelect, onHold }: LiveProps) {
  const { query, rows, waiting, release } = live;
  if (query.isPending) return <Skeleton lines={12} />;
  if (query.isError && rows.length === 0) return <Trouble error={query.error} retry={() => void query.refetch()} />;
  if (rows.length === 0) return <NoRuns filtered={filtered} clear={clear} />;
  return (
    <>
      {waiting > 0 && (
        <div className="fresh">
          <Button look="primary" onClick={release}>
            {waiting} new {waiting === 1 ? "run" : "runs"}
          </Button>
        </div>
      )}
      <RunsTable
        rows={rows}
        selected={selected}
        onSelect={onSelect}
        onHold={onHold}
        more={query.hasNextPage}
        loadMore={() => {
          if (!query.isFetchingNextPage) void query.fetchNextPage();
        }}
      />
    </>
  );
}

/** How far a search is, and what can be done about it. */
function SearchState({ searching }: { searching: Searching }) {
  const { state, runs, tried, reached, error, stop, goOn } = searching;
  if (error) return <Trouble error={error} retry={goOn} />;
  const looked = `${tried} ${tried === 1 ? "run" : "runs"} looked at`;
  return (
    <div className="search-state" role="status">
      <strong>
        {runs.length} {runs.length === 1 ? "run" : "runs"} found
      </strong>
      <span className="quiet">
        {looked}
        {reached !== null && state !== "done" && (
          <>
            , back to <At at={reached} />
          </>
        )}
        {state === "done" && ", that is all of them"}
      </span>
      {state === "busy" && <Button onClick={stop}>Stop</Button>}
      {state === "stopped" && <Button onClick={goOn}>Go on</Button>}
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
