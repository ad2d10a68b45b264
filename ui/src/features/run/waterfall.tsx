import { useVirtualizer } from "@tanstack/react-virtual";
import { ChevronRight, CornerDownRight, Hourglass, Moon, Play, Radio, Send, SquareFunction } from "lucide-react";
import { type CSSProperties, type PointerEvent, useRef, useState } from "react";

import type { Schemas } from "@/shared/api/client";
import { Button } from "@/shared/components/button";
import { lookOf } from "@/shared/components/status";
import { formatDuration } from "@/shared/format/time";

import { useRowKeys } from "./row-keys";
import type { Progress } from "./progress";
import { place, type Row, type Window } from "./rows";

const ROW_PX = 30;
const ICONS = {
  step: Play,
  sleep: Moon,
  event: Hourglass,
  signal: Radio,
  invoke: CornerDownRight,
  request: Send,
  call: SquareFunction,
};
const RESTING = new Set(["sleep", "event", "signal", "invoke"]);
const KIND_WORDS = {
  step: "step",
  sleep: "sleep",
  event: "wait for an event",
  signal: "wait for a signal",
  invoke: "invoked function",
  request: "request of the server",
  call: "code of the function",
};

interface Props {
  rows: Row[];
  whole: Window;
  now: number;
  progress: Progress;
  selected: string | null;
  onSelect: (key: string | null) => void;
  onToggle: (key: string) => void;
}

/** All that a run did, a row each, over time. Waiting for a turn is drawn apart from running. */
export function Waterfall({ rows, whole, now, progress, selected, onSelect, onToggle }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  const [zoom, setZoom] = useState<Window | null>(null);
  const window = zoom ?? whole;
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_PX,
    overscan: 15,
  });
  useRowKeys(rows, selected, onSelect, onToggle, virtual.scrollToIndex);
  return (
    <div className="waterfall">
      <div className="waterfall-head">
        <span>
          {rows.length} {rows.length === 1 ? "line" : "lines"}
          {zoom && (
            <Button look="quiet" onClick={() => setZoom(null)}>
              Whole run
            </Button>
          )}
        </span>
        <Ruler window={window} onZoom={setZoom} />
      </div>
      <div className="waterfall-rows" ref={scroller}>
        <ul style={{ height: virtual.getTotalSize(), position: "relative" }} aria-label="Trace">
          {virtual.getVirtualItems().map((item) => {
            const row = rows[item.index];
            if (row === undefined) return null;
            return (
              <li key={row.key} style={{ transform: `translateY(${item.start}px)` }}>
                <Line
                  row={row}
                  window={window}
                  now={now}
                  told={row.ended === null ? progress.get(row.line.step_id ?? "") : undefined}
                  selected={selected === row.key}
                  onSelect={() => onSelect(selected === row.key ? null : row.key)}
                  onToggle={() => onToggle(row.key)}
                />
              </li>
            );
          })}
        </ul>
      </div>
    </div>
  );
}

function Line({
  row,
  window,
  now,
  told,
  selected,
  onSelect,
  onToggle,
}: {
  row: Row;
  window: Window;
  now: number;
  told: Schemas["Progress"] | undefined;
  selected: boolean;
  onSelect: () => void;
  onToggle: () => void;
}) {
  const look = lookOf(row.status);
  const Icon = ICONS[row.line.kind];
  const from = row.started ?? row.queued;
  const length = row.started === null && row.ended === null ? null : (row.ended ?? now) - from;
  return (
    <div className="waterfall-row" data-selected={selected || undefined} data-tone={look.tone}>
      <div className="waterfall-name" style={{ "--depth": row.depth } as CSSProperties}>
        {row.open === null ? (
          <span className="twist" />
        ) : (
          <button
            type="button"
            className="icon-button twist"
            aria-expanded={row.open}
            aria-label={row.line.child === null ? `Attempts of ${row.name}` : `Run of ${row.name}`}
            onClick={onToggle}
          >
            <ChevronRight aria-hidden />
          </button>
        )}
        <button type="button" className="line-button" aria-pressed={selected} onClick={onSelect}>
          <Icon aria-hidden />
          <span className="line-name">{row.name}</span>
          <span className="visually-hidden">
            , {KIND_WORDS[row.line.kind]}, {look.word}
          </span>
          {told && told.progress !== null && (
            <span className="pill" data-tone="busy" title={told.message}>
              {Math.round(told.progress * 100)} %
            </span>
          )}
          {row.tries > 1 && <span className="pill">{row.tries} tries</span>}
          <span className="line-length">{length === null ? look.word : formatDuration(length)}</span>
        </button>
      </div>
      {/* The same as pressing the name: a larger place to hit with a mouse. */}
      <div className="waterfall-track" aria-hidden onClick={onSelect}>
        <Bars row={row} window={window} now={now} />
      </div>
    </div>
  );
}

function Bars({ row, window, now }: { row: Row; window: Window; now: number }) {
  const end = row.ended ?? now;
  const start = row.started ?? end;
  const left = place(row.queued, window);
  const mid = place(start, window);
  const right = place(end, window);
  const several = row.attempt === null && row.tries > 1;
  return (
    <>
      {mid > left && <span className="bar bar-queue" style={{ left: `${left}%`, width: `${mid - left}%` }} />}
      {several ? (
        row.line.tries.map((one) => {
          const from = place(one.started_at ?? one.due_at, window);
          const to = place(one.ended_at ?? now, window);
          return (
            <span
              key={one.number}
              className="bar"
              data-tone={lookOf(one.status).tone}
              style={{ left: `${from}%`, width: `max(3px, ${to - from}%)` }}
            />
          );
        })
      ) : row.started === null ? null : (
        <span
          className="bar"
          data-resting={RESTING.has(row.line.kind) || undefined}
          data-open={row.ended === null || undefined}
          style={{ left: `${mid}%`, width: `max(3px, ${right - mid}%)` }}
        />
      )}
    </>
  );
}

const MARKS = [0, 25, 50, 75, 100];
const MIN_DRAG_PX = 4;

/** The scale. Drag over it to look closer; a double click shows the whole run again. */
function Ruler({ window, onZoom }: { window: Window; onZoom: (window: Window | null) => void }) {
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const at = (event: PointerEvent): number => {
    const rect = box.current?.getBoundingClientRect();
    return rect ? Math.min(1, Math.max(0, (event.clientX - rect.left) / rect.width)) : 0;
  };
  const length = window.to - window.from;
  return (
    <div
      ref={box}
      className="ruler"
      title="Drag to look closer"
      onDoubleClick={() => onZoom(null)}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        setDrag({ from: at(event), to: at(event) });
      }}
      onPointerMove={(event) => {
        if (drag) setDrag({ ...drag, to: at(event) });
      }}
      onPointerUp={(event) => {
        const width = box.current?.clientWidth ?? 1;
        if (drag && Math.abs(drag.to - drag.from) * width > MIN_DRAG_PX) {
          const [a, b] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
          onZoom({ from: window.from + a * length, to: window.from + b * length });
        }
        event.currentTarget.releasePointerCapture(event.pointerId);
        setDrag(null);
      }}
    >
      {MARKS.map((percent) => (
        <span key={percent} style={{ left: `${percent}%` }} data-edge={percent === 100 || undefined}>
          {formatDuration((length * percent) / 100)}
        </span>
      ))}
      {drag && (
        <i
          style={{
            left: `${Math.min(drag.from, drag.to) * 100}%`,
            width: `${Math.abs(drag.to - drag.from) * 100}%`,
          }}
        />
      )}
    </div>
  );
}
