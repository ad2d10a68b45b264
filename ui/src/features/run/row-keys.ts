import { useEffect } from "react";

import type { Row } from "./rows";

/** j and k go down and up the trace, Enter opens what is below a line, Esc goes back to the run itself. */
export function useRowKeys(
  rows: Row[],
  selected: string | null,
  onSelect: (key: string | null) => void,
  onToggle: (key: string) => void,
  scrollTo: (index: number) => void,
): void {
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      const target = event.target as Element;
      if (event.metaKey || event.ctrlKey || event.altKey) return;
      if (target.closest("input, textarea, select, [role=menu], [role=dialog], [contenteditable]")) return;
      const index = rows.findIndex((row) => row.key === selected);
      const step = { j: 1, k: -1 }[event.key];
      if (step !== undefined) {
        const next = Math.min(rows.length - 1, Math.max(0, index + step));
        onSelect(rows[next]?.key ?? null);
        scrollTo(next);
      } else if (event.key === "Enter" && !target.closest("a, button")) {
        const row = rows[index];
        if (row && row.open !== null) onToggle(row.key);
      } else if (event.key === "Escape") {
        onSelect(null);
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [rows, selected, onSelect, onToggle, scrollTo]);
}
