/** Live updates: what the server has just changed, handed to every part of the page that asks. */
import { useEffect, useRef, useSyncExternalStore } from "react";

import { BASE, type Run } from "./client";

export interface EventHead {
  internal_id: string;
  name: string;
  received_at: number;
  internal: boolean;
}

/** What changed since the last update. `more` says that there was too much to tell one by one. */
export interface Update {
  runs: Run[];
  changed: string[];
  events: EventHead[];
  apps: boolean;
  functions: boolean;
  more: boolean;
}

export type FromWorker =
  | { kind: "state"; connected: boolean }
  | { kind: "update"; data: string }
  | { kind: "resync" };

/** An update, or `resync`: something was missed, and all that is shown must be read again. */
export type News = Update | "resync";

const listeners = new Set<(news: News) => void>();
const watchers = new Set<() => void>();
let connected = false;
let everConnected = false;

function hear(message: FromWorker): void {
  if (message.kind === "state") {
    connected = message.connected;
    everConnected ||= connected;
    for (const watcher of watchers) watcher();
    return;
  }
  const news: News = message.kind === "resync" ? "resync" : (JSON.parse(message.data) as Update);
  for (const listener of listeners) listener(news);
}

/** Begin to listen; once, at the start of the page. */
export function startLive(): void {
  const url = new URL(`${BASE}/api/live`, location.origin).href;
  if ("SharedWorker" in window) {
    const worker = new SharedWorker(new URL("./live.worker.ts", import.meta.url), {
      type: "module",
      name: `perdure-live-${BASE}`,
    });
    worker.port.onmessage = (event: MessageEvent<FromWorker>) => hear(event.data);
    worker.port.postMessage({ url });
    addEventListener("pagehide", () => worker.port.postMessage({ bye: true }));
    addEventListener("pageshow", (event) => {
      if (event.persisted) location.reload();
    });
    return;
  }
  const source = new EventSource(url);
  source.onopen = () => hear({ kind: "state", connected: true });
  source.onerror = () => hear({ kind: "state", connected: false });
  source.addEventListener("update", (event: MessageEvent<string>) => hear({ kind: "update", data: event.data }));
  source.addEventListener("resync", () => hear({ kind: "resync" }));
}

/** Whether updates arrive: `null` until that is known for the first time. */
export function useConnected(): boolean | null {
  return useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    () => (everConnected ? connected : null),
  );
}

/** Call `listener` with all that changes, as long as the component is shown. */
export function useLive(listener: (news: News) => void): void {
  const latest = useRef(listener);
  useEffect(() => {
    latest.current = listener;
  });
  useEffect(() => {
    const hear = (news: News): void => latest.current(news);
    listeners.add(hear);
    return () => {
      listeners.delete(hear);
    };
  }, []);
}
