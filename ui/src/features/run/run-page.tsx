import { useQueries, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";

import { useRereading } from "@/shared/api/rereading";
import type { RunDetail } from "@/shared/api/client";
import { useNow } from "@/shared/components/clock";
import { Skeleton, Trouble } from "@/shared/components/note";

import { runQuery } from "./api";
import { Details } from "./details";
import { Head } from "./head";
import { useProgress } from "./progress";
import { type Row, rowsOf, spanOf, wantedChildren } from "./rows";
import { Waterfall } from "./waterfall";
import "./run.css";

const REREAD_MS = 250;

export function RunPage() {
  const { runId } = useParams({ from: "/runs/$runId" });
  const { line } = useSearch({ from: "/runs/$runId" });
  const navigate = useNavigate({ from: "/runs/$runId" });
  const queries = useQueryClient();
  const query = useQuery(runQuery(runId));
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  useRereading(
    () => void queries.invalidateQueries({ queryKey: ["run", runId] }),
    REREAD_MS,
    (news) => news.more || news.changed.includes(runId),
  );
  const detail = query.data;
  const now = useNow() + shiftOf(detail?.now, query.dataUpdatedAt);
  const rows = useRows(detail, open);
  const progress = useProgress(runId, detail);
  const toggle = useCallback((key: string) => {
    setOpen((keys) => {
      const next = new Set(keys);
      if (!next.delete(key)) next.add(key);
      return next;
    });
  }, []);
  if (query.isPending) return <Skeleton lines={12} />;
  if (detail === undefined) return <Trouble error={query.error} retry={() => void query.refetch()} />;
  const selected = rows.find((row) => row.key === line) ?? null;
  return (
    <div className="page">
      <Head detail={detail} />
      <div className="run-body">
        <Waterfall
          rows={rows}
          whole={spanOf(detail, now)}
          now={now}
          progress={progress}
          selected={line ?? null}
          onSelect={(key) => void navigate({ search: key === null ? {} : { line: key }, replace: true })}
          onToggle={toggle}
        />
        <Details detail={detail} row={selected} />
      </div>
    </div>
  );
}

/** How far the server's clock was from this browser's when it answered, in ms: it may have travelled in time. */
function shiftOf(serverNow: number | undefined, answeredAt: number): number {
  return serverNow === undefined ? 0 : serverNow - answeredAt;
}

/** The rows of a run, with the lines of invoked runs where those are open; these are read when they are wanted. */
function useRows(detail: RunDetail | undefined, open: ReadonlySet<string>): Row[] {
  const [wanted, setWanted] = useState<string[]>([]);
  const children = useQueries({
    queries: wanted.map((id) => runQuery(id)),
    combine: (results) => new Map(results.flatMap(({ data }) => (data ? [[data.run.id, data] as const] : []))),
  });
  const rows = useMemo(() => (detail ? rowsOf(detail, open, children) : []), [detail, open, children]);
  const now = wantedChildren(rows);
  if (now.join() !== wanted.join()) setWanted(now);
  return rows;
}
