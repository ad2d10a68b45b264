/** Short messages about what has just been done. */
import { useSyncExternalStore } from "react";

import { Button } from "./button";
import type { Tone } from "./status";

interface Toast {
  id: number;
  text: string;
  tone: Tone;
  action?: { label: string; run: () => void } | undefined;
}

const SHOWN_MS = 6000;
let toasts: Toast[] = [];
let next = 1;
const watchers = new Set<() => void>();

function set(list: Toast[]): void {
  toasts = list;
  for (const watcher of watchers) watcher();
}

function drop(id: number): void {
  set(toasts.filter((toast) => toast.id !== id));
}

/** Show a message for some seconds. */
export function toast(text: string, tone: Tone = "ok", action?: Toast["action"]): void {
  const id = next++;
  set([...toasts.slice(-3), { id, text, tone, action }]);
  setTimeout(() => drop(id), SHOWN_MS);
}

/** Say that something did not work, in the server's words. */
export function toastError(error: unknown): void {
  toast(error instanceof Error ? error.message : String(error), "bad");
}

export function Toasts() {
  const shown = useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    () => toasts,
  );
  return (
    <ol className="toasts" aria-live="polite" style={{ listStyle: "none", padding: 0 }}>
      {shown.map(({ id, text, tone, action }) => (
        <li key={id} className="toast" data-tone={tone}>
          <span>{text}</span>
          {action && (
            <Button
              onClick={() => {
                drop(id);
                action.run();
              }}
            >
              {action.label}
            </Button>
          )}
        </li>
      ))}
    </ol>
  );
}
