/** From the lines of a trace to the rows of the waterfall. Pure, so that it can be tested without a page. */
import type { Line, RunDetail, Try } from "@/shared/api/client";

export interface Row {
  key: string;
  depth: number;
  line: Line;
  /** The run that the line belongs to: the one that is shown, or one that it has invoked. */
  runId: string;
  /** The attempt, if the row is one of several of its line. */
  attempt: Try | null;
  name: string;
  status: string;
  /** When it began to wait for its turn, when it began to run or to sleep, when it ended; ms. */
  queued: number;
  started: number | null;
  ended: number | null;
  tries: number;
  /** Whether what is below it is shown; null if there is nothing below it. */
  open: boolean | null;
}

const CALLS: Record<string, string> = { call: "Function code" };
const DEEPEST = 6;

/** What a line is called. */
export function nameOf(line: Line): string {
  if (line.is_end) return "End of the function";
  return line.name || CALLS[line.kind] || line.kind;
}

/**
 * The rows of a run. `open` holds the keys of rows of which what is below is shown: the attempts of a step, or
 * the lines of an invoked run, as far as that has been read (`children`, by id).
 */
export function rowsOf(
  detail: RunDetail,
  open: ReadonlySet<string>,
  children: ReadonlyMap<string, RunDetail> = new Map(),
  depth = 0,
  prefix = "",
): Row[] {
  const rows: Row[] = [];
  for (const line of detail.lines) {
    const key = prefix + line.key;
    const row = rowOf(detail, line, key, depth, open);
    rows.push(row);
    if (!row.open) continue;
    if (line.tries.length > 1) rows.push(...line.tries.map((one) => attemptRow(row, one)));
    const child = line.child === null || depth >= DEEPEST ? undefined : children.get(line.child);
    if (child) rows.push(...rowsOf(child, open, children, depth + 1, `${key}>`));
  }
  return rows;
}

function rowOf(detail: RunDetail, line: Line, key: string, depth: number, open: ReadonlySet<string>): Row {
  const first = line.tries[0];
  const below = line.tries.length > 1 || line.child !== null;
  return {
    key,
    depth,
    line,
    runId: detail.run.id,
    attempt: null,
    name: nameOf(line),
    status: line.status,
    queued: first?.due_at ?? line.queued_at,
    started: first?.started_at ?? line.started_at,
    ended: line.ended_at,
    tries: line.tries.length,
    open: below ? open.has(key) : null,
  };
}

function attemptRow(row: Row, attempt: Try): Row {
  return {
    ...row,
    key: `${row.key}/${attempt.number}`,
    depth: row.depth + 1,
    attempt,
    name: `Attempt ${attempt.number + 1}`,
    status: attempt.status,
    queued: attempt.due_at,
    started: attempt.started_at,
    ended: attempt.ended_at,
    tries: 1,
    open: null,
  };
}

/** The invoked runs whose lines are to be read, since the rows above them are open. */
export function wantedChildren(rows: Row[]): string[] {
  const wanted = rows.filter((row) => row.open && row.line.child !== null && row.depth < DEEPEST);
  return [...new Set(wanted.map((row) => row.line.child ?? ""))];
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
