import { useQuery } from "@tanstack/react-query";
import { type PointerEvent, useRef, useState } from "react";

import { metricsQuery, REREAD_MS } from "@/shared/api/metrics";
import { useRereading } from "@/shared/api/rereading";
import { useNow, useZone } from "@/shared/components/clock";
import { formatClock } from "@/shared/format/time";

import { type RunsSearch, SPANS } from "./search";

const DAY = 86_400_000;
const MIN_DRAG = 0.01;

interface Props {
  search: RunsSearch;
  onZoom: (since: number, until: number) => void;
}

/** Runs by when they ended, and how. Drag over it to see only those of a time. */
export function Histogram({ search, onZoom }: Props) {
  const length = search.span ? SPANS[search.span].ms : DAY;
  const [base] = useState(() => Date.now());
  const until = search.until;
  const since = search.since ?? (until === undefined ? undefined : until - length);
  const query = useQuery(
    metricsQuery({
      ...(since === undefined ? { since: base - length } : { since }),
      ...(until !== undefined && { until }),
      ...(search.function && { function: search.function }),
      ...(search.app && { app: search.app }),
    }),
  );
  useRereading(() => void query.refetch(), REREAD_MS, (news) => news.more || news.runs.length > 0);
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const { zone } = useZone();
  const now = useNow();
  const metrics = query.data;
  if (!metrics) return <div className="histogram" aria-hidden />;
  const sums = metrics.at.map((_, point) => at(metrics.completed, point) + at(metrics.failed, point) + at(metrics.cancelled, point));
  const most = Math.max(1, ...sums);
  const first = metrics.at[0] ?? 0;
  const last = (metrics.at.at(-1) ?? first) + metrics.step;
  const share = (event: PointerEvent): number => {
    const rect = box.current?.getBoundingClientRect();
    return rect ? Math.min(1, Math.max(0, (event.clientX - rect.left) / rect.width)) : 0;
  };
  const total = sums.reduce((sum, one) => sum + one, 0);
  return (
    <div
      ref={box}
      className="histogram"
      role="img"
      aria-label={`${total} runs ended between ${formatClock(first, last, zone)} and ${formatClock(last, last, zone)}`}
      title="Drag to see the runs of a time"
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        setDrag({ from: share(event), to: share(event) });
      }}
      onPointerMove={(event) => {
        if (drag) setDrag({ ...drag, to: share(event) });
      }}
      onPointerUp={() => {
        if (drag && Math.abs(drag.to - drag.from) > MIN_DRAG) {
          const [a, b] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
          onZoom(Math.round(first + a * (last - first)), Math.round(first + b * (last - first)));
        }
        setDrag(null);
      }}
    >
      {metrics.at.map((time, point) => (
        <span key={time} style={{ height: `${(100 * (sums[point] ?? 0)) / most}%` }}>
          <i data-tone="bad" style={{ flexGrow: at(metrics.failed, point) }} />
          <i data-tone="still" style={{ flexGrow: at(metrics.cancelled, point) }} />
          <i data-tone="ok" style={{ flexGrow: at(metrics.completed, point) }} />
        </span>
      ))}
      <small>{formatClock(first, last, zone)}</small>
      <small className="last">{formatClock(last, now, zone)}</small>
      {drag && (
        <b style={{ left: `${Math.min(drag.from, drag.to) * 100}%`, width: `${Math.abs(drag.to - drag.from) * 100}%` }} />
      )}
    </div>
  );
}

function at(values: number[], point: number): number {
  return values[point] ?? 0;
}
