/** From the lines of a trace to the rows of the waterfall. Pure, so that it can be tested without a page. */
import type { Line, RunDetail, Try } from "@/shared/api/client";

export interface Row {
  key: string;
  depth: number;
  line: Line;
  /** The attempt, if the row is one of several of its line. */
  attempt: Try | null;
  name: string;
  status: string;
  /** When it began to wait for its turn, when it began to run or to sleep, when it ended; ms. */
  queued: number;
  started: number | null;
  ended: number | null;
  tries: number;
  open: boolean | null;
}

const CALLS: Record<string, string> = { call: "Function code" };

/** What a line is called. */
export function nameOf(line: Line): string {
  if (line.is_end) return "End of the function";
  return line.name || CALLS[line.kind] || line.kind;
}

/** The rows of a run; `open` holds the keys of lines whose attempts are shown. */
export function rowsOf(detail: RunDetail, open: ReadonlySet<string>): Row[] {
  const rows: Row[] = [];
  for (const line of detail.lines) {
    const several = line.tries.length > 1;
    const shown = several && open.has(line.key);
    const first = line.tries[0];
    rows.push({
      key: line.key,
      depth: 0,
      line,
      attempt: null,
      name: nameOf(line),
      status: line.status,
      queued: first?.due_at ?? line.queued_at,
      started: first?.started_at ?? line.started_at,
      ended: line.ended_at,
      tries: line.tries.length,
      open: several ? shown : null,
    });
    if (!shown) continue;
    for (const attempt of line.tries) {
      rows.push({
        key: `${line.key}/${attempt.number}`,
        depth: 1,
        line,
        attempt,
        name: `Attempt ${attempt.number + 1}`,
        status: attempt.status,
        queued: attempt.due_at,
        started: attempt.started_at,
        ended: attempt.ended_at,
        tries: 1,
        open: null,
      });
    }
  }
  return rows;
}

export interface Window {
  from: number;
  to: number;
}

/** The whole time that a run takes, until now if it has not ended; never empty. */
export function spanOf(detail: RunDetail, now: number): Window {
  const from = detail.run.queued_at;
  const to = detail.run.ended_at ?? Math.max(now, from);
  return { from, to: Math.max(to, from + 1) };
}

/** Where a time stands in a window, in percent, cut to its edges. */
export function place(at: number, { from, to }: Window): number {
  return Math.min(100, Math.max(0, ((at - from) / (to - from)) * 100));
}
