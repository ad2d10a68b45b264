import type { ReactNode } from "react";

import { Button } from "./button";

/** What stands where there is nothing to show, and what to do about it. */
export function Note({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="note" role="status">
      <strong>{title}</strong>
      {children}
    </div>
  );
}

/** Something could not be read; the server's words, and a way on. */
export function Trouble({ error, retry }: { error: Error; retry?: () => void }) {
  return (
    <div className="note" role="alert">
      <strong>That did not work</strong>
      <p>{error.message}</p>
      {retry && <Button onClick={retry}>Try again</Button>}
    </div>
  );
}

/** Lines that will be text in a moment. */
export function Skeleton({ lines = 6 }: { lines?: number }) {
  return (
    <div aria-busy="true" aria-label="Loading" style={{ display: "grid", gap: 14, padding: 24 }}>
      {Array.from({ length: lines }, (_, line) => (
        <div key={line} className="skeleton" style={{ width: `${[92, 74, 86, 60][line % 4] ?? 80}%` }} />
      ))}
    </div>
  );
}
