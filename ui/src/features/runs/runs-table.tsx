import {
  columnVisibilityFeature,
  createColumnHelper,
  tableFeatures,
  useTable,
} from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { Link, useNavigate } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";

import type { Run } from "@/shared/api/client";
import { Ago, Lasting } from "@/shared/components/clock";
import { Status } from "@/shared/components/status";

import { Columns, useColumns } from "./columns";
import { Trigger } from "./trigger";

const ROW_PX = 38;
const NEAR_END = 20;

const features = tableFeatures({ columnVisibilityFeature });
const helper = createColumnHelper<typeof features, Run>();
const columns = helper.columns([
  helper.accessor("status", { header: "Status", cell: (info) => <Status status={info.getValue()} /> }),
  helper.accessor("function_name", {
    id: "function",
    header: "Function",
    cell: ({ row }) => (
      <Link to="/runs/$runId" params={{ runId: row.original.id }} className="run-link">
        {row.original.function_name}
      </Link>
    ),
  }),
  helper.accessor("event_name", {
    id: "trigger",
    header: "Trigger",
    cell: ({ row }) => <Trigger run={row.original} />,
  }),
  helper.accessor("app", { header: "App" }),
  helper.accessor("queued_at", { id: "queued", header: "Queued", cell: (info) => <Ago at={info.getValue()} /> }),
  helper.accessor("started_at", {
    id: "started",
    header: "Started",
    cell: (info) => {
      const at = info.getValue();
      return at === null ? "–" : <Ago at={at} />;
    },
  }),
  helper.accessor("ended_at", {
    id: "duration",
    header: "Duration",
    cell: ({ row }) => <Lasting from={row.original.started_at} to={row.original.ended_at} />,
  }),
  helper.accessor("id", { id: "id", header: "Run", cell: (info) => <code>{info.getValue()}</code> }),
]);

interface Props {
  rows: Run[];
  selected: ReadonlySet<string>;
  onSelect: (ids: ReadonlySet<string>) => void;
  onHold: (held: boolean) => void;
  more: boolean;
  loadMore: () => void;
}

/** The list of runs: only the rows in view are in the page. j and k go down and up, x selects, Enter opens. */
export function RunsTable({ rows, selected, onSelect, onHold, more, loadMore }: Props) {
  const [visible, setVisible] = useColumns();
  const table = useTable({ features, columns, data: rows, state: { columnVisibility: visible } });
  const scroller = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_PX,
    overscan: 12,
  });
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (more && last >= rows.length - NEAR_END) loadMore();
  }, [more, last, rows.length, loadMore]);
  const shown = table.getRowModel().rows;
  const cursor = useCursor(rows, virtual.scrollToIndex, selected, onSelect);
  const widths = table.getVisibleLeafColumns().map((column) => WIDTHS[column.id] ?? "1fr");
  const template = `34px ${widths.join(" ")}`;
  return (
    <div
      className="page-body runs"
      ref={scroller}
      onScroll={(event) => onHold(event.currentTarget.scrollTop > ROW_PX)}
    >
      <div role="table" aria-label="Runs" aria-rowcount={more ? -1 : rows.length + 1} className="grid">
        <div role="row" className="grid-head" style={{ gridTemplateColumns: template }}>
          <span role="columnheader">
            <Columns table={table} visible={visible} onChange={setVisible} />
          </span>
          {table.getHeaderGroups()[0]?.headers.map((header) => (
            <span role="columnheader" key={header.id} data-column={header.column.id}>
              <table.FlexRender header={header} />
            </span>
          ))}
        </div>
        <div role="rowgroup" style={{ height: virtual.getTotalSize(), position: "relative" }}>
          {items.map((item) => {
            const row = shown[item.index];
            if (row === undefined) return null;
            const id = row.original.id;
            return (
              <div
                role="row"
                key={id}
                aria-rowindex={item.index + 2}
                aria-selected={selected.has(id)}
                className="grid-row"
                data-cursor={cursor === item.index || undefined}
                style={{ gridTemplateColumns: template, transform: `translateY(${item.start}px)` }}
              >
                <span role="cell">
                  <input
                    type="checkbox"
                    aria-label={`Select run ${id}`}
                    checked={selected.has(id)}
                    onChange={() => onSelect(toggled(selected, id))}
                  />
                </span>
                {row.getVisibleCells().map((cell) => (
                  <span role="cell" key={cell.id} data-column={cell.column.id}>
                    <table.FlexRender cell={cell} />
                  </span>
                ))}
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

const WIDTHS: Record<string, string> = {
  status: "118px",
  function: "minmax(140px, 2fr)",
  trigger: "minmax(140px, 2fr)",
  app: "minmax(90px, 1fr)",
  queued: "110px",
  started: "110px",
  duration: "100px",
  id: "250px",
};

function toggled(selected: ReadonlySet<string>, id: string): Set<string> {
  const next = new Set(selected);
  if (!next.delete(id)) next.add(id);
  return next;
}

/** The row that the keyboard is at, -1 for none. */
function useCursor(
  rows: Run[],
  scrollTo: (index: number) => void,
  selected: ReadonlySet<string>,
  onSelect: (ids: ReadonlySet<string>) => void,
): number {
  const [id, setId] = useState<string | null>(null);
  const navigate = useNavigate();
  const index = id === null ? -1 : rows.findIndex((run) => run.id === id);
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      const target = event.target as HTMLElement;
      if (event.metaKey || event.ctrlKey || event.altKey) return;
      if (target.closest("input:not([type=checkbox]), textarea, select, [role=menu], [role=dialog]")) return;
      const step = { j: 1, k: -1 }[event.key];
      if (step !== undefined) {
        const next = Math.min(rows.length - 1, Math.max(0, index + step));
        setId(rows[next]?.id ?? null);
        scrollTo(next);
      } else if (event.key === "x" && id !== null) {
        onSelect(toggled(selected, id));
      } else if (event.key === "Enter" && id !== null && !target.closest("a, button")) {
        void navigate({ to: "/runs/$runId", params: { runId: id } });
      } else if (event.key === "Escape") {
        setId(null);
        onSelect(new Set());
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [rows, index, id, scrollTo, selected, onSelect, navigate]);
  return index;
}
