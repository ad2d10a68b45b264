/** Two runs side by side, line by line. Pure, so that it can be tested without a page. */
import type { Line, RunDetail } from "@/shared/api/client";

import { nameOf } from "./rows";

export interface Pair {
  key: string;
  name: string;
  left: Line | null;
  right: Line | null;
}

/** How a pair differs: the path (one of them has no such line), how it ended, or what it gave. */
export type Difference = "path" | "status" | "output" | null;

/** The lines of two runs, put beside each other by what they are: first in the order of the left one. */
export function pairsOf(left: RunDetail, right: RunDetail): Pair[] {
  const others = new Map(right.lines.map((line) => [idOf(line), line]));
  const pairs: Pair[] = left.lines.map((line) => {
    const id = idOf(line);
    const other = others.get(id) ?? null;
    others.delete(id);
    return { key: id, name: nameOf(line), left: line, right: other };
  });
  for (const [id, line] of others) {
    const before = right.lines[right.lines.indexOf(line) - 1];
    const at = before ? pairs.findIndex((pair) => pair.key === idOf(before)) + 1 : 0;
    pairs.splice(at, 0, { key: id, name: nameOf(line), left: null, right: line });
  }
  return pairs;
}

function idOf(line: Line): string {
  if (line.is_end) return "end";
  return line.step_id ?? `${line.kind} ${line.key}`;
}

/** How a pair differs; `outputs` are the results of both as text, where they have been read. */
export function differenceOf(pair: Pair, outputs?: [string | null, string | null]): Difference {
  if (pair.left === null || pair.right === null) return "path";
  if (pair.left.status !== pair.right.status) return "status";
  return outputs !== undefined && outputs[0] !== outputs[1] ? "output" : null;
}

/** How long a line took, null while it has not ended. */
export function tookOf(line: Line | null): number | null {
  if (line?.ended_at == null) return null;
  return line.ended_at - (line.started_at ?? line.queued_at);
}
