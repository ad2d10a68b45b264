/** One clock for all relative times of a page, and the zone in which exact ones are shown. */
import { createContext, type ReactNode, useContext, useEffect, useMemo, useState, useSyncExternalStore } from "react";

import { formatClock, formatDuration, formatExact, formatRelative, type Zone } from "@/shared/format/time";

import { Tip } from "./tip";

const TICK_MS = 1000;
let now = Date.now();
let timer: ReturnType<typeof setInterval> | undefined;
const watchers = new Set<() => void>();

function watch(watcher: () => void): () => void {
  watchers.add(watcher);
  timer ??= setInterval(() => {
    now = Date.now();
    for (const each of watchers) each();
  }, TICK_MS);
  return () => {
    watchers.delete(watcher);
    if (watchers.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** The time, new each second while the component is shown. */
export function useNow(): number {
  return useSyncExternalStore(watch, () => now);
}

const ZoneContext = createContext<{ zone: Zone; setZone: (zone: Zone) => void }>({
  zone: "local",
  setZone: () => undefined,
});

export function ZoneProvider({ children }: { children: ReactNode }) {
  const [zone, setZone] = useState<Zone>(() => (localStorage.getItem("perdure.zone") === "utc" ? "utc" : "local"));
  useEffect(() => localStorage.setItem("perdure.zone", zone), [zone]);
  const value = useMemo(() => ({ zone, setZone }), [zone]);
  return <ZoneContext value={value}>{children}</ZoneContext>;
}

export function useZone() {
  return useContext(ZoneContext);
}

/** A time: how long ago, with the exact one on hover. */
export function Ago({ at }: { at: number }) {
  const { zone } = useZone();
  const current = useNow();
  return (
    <Tip text={formatExact(at, zone)}>
      <time dateTime={new Date(at).toISOString()}>{formatRelative(at, Math.max(current, at))}</time>
    </Tip>
  );
}

/** A time of day (with the date if it is another day), with the exact one on hover. */
export function At({ at }: { at: number }) {
  const { zone } = useZone();
  const current = useNow();
  return (
    <Tip text={formatExact(at, zone)}>
      <time dateTime={new Date(at).toISOString()}>{formatClock(at, current, zone)}</time>
    </Tip>
  );
}

/** How long something took, or has taken until now. */
export function Lasting({ from, to }: { from: number | null; to: number | null }) {
  if (from === null) return <span aria-label="not started">–</span>;
  if (to !== null) return <span>{formatDuration(to - from)}</span>;
  return <Growing from={from} />;
}

function Growing({ from }: { from: number }) {
  const current = useNow();
  return <span>{formatDuration(Math.max(0, current - from))}</span>;
}
