import { describe, expect, it } from "vitest";

import type { Line, RunDetail, Try } from "@/shared/api/client";

import { place, rowsOf, spanOf, wantedChildren } from "./rows";

const attempt = (number: number, status: string): Try => ({
  number,
  status,
  queued_at: 1000 + number * 100,
  due_at: 1000 + number * 100,
  started_at: 1010 + number * 100,
  ended_at: 1050 + number * 100,
  http_status: 206,
  output: null,
});

const line = (key: string, tries: Try[]): Line =>
  ({ key, kind: "step", name: key, status: "COMPLETED", queued_at: 1000, started_at: 1010, ended_at: 1250, tries, child: null }) as unknown as Line;

const detail = (lines: Line[], ended: number | null): RunDetail =>
  ({ run: { id: "run", queued_at: 1000, started_at: 1005, ended_at: ended }, lines }) as unknown as RunDetail;

describe("rows", () => {
  it("shows a line tried once as one row", () => {
    const rows = rowsOf(detail([line("a", [attempt(0, "COMPLETED")])], 2000), new Set());
    expect(rows.map((row) => [row.name, row.open, row.tries])).toEqual([["a", null, 1]]);
  });

  it("shows attempts of an open line below it, with their own times", () => {
    const tries = [attempt(0, "FAILED"), attempt(1, "COMPLETED")];
    const shut = rowsOf(detail([line("a", tries)], 2000), new Set());
    expect(shut.map((row) => row.open)).toEqual([false]);
    const open = rowsOf(detail([line("a", tries)], 2000), new Set(["a"]));
    expect(open.map((row) => [row.name, row.depth, row.status])).toEqual([
      ["a", 0, "COMPLETED"],
      ["Attempt 1", 1, "FAILED"],
      ["Attempt 2", 1, "COMPLETED"],
    ]);
    expect(open[2]?.started).toBe(1110);
  });
});

describe("invoked runs", () => {
  const invoke = { ...line("call", []), kind: "invoke", child: "inner" } as Line;
  const inner = { ...detail([line("x", [attempt(0, "COMPLETED")])], 1300), run: { id: "inner", queued_at: 1100 } } as RunDetail;

  it("are wanted when their row is open, and shown once they have been read", () => {
    const shut = rowsOf(detail([invoke], 2000), new Set());
    expect([shut[0]?.open, wantedChildren(shut)]).toEqual([false, []]);
    const open = rowsOf(detail([invoke], 2000), new Set(["call"]));
    expect([open.length, wantedChildren(open)]).toEqual([1, ["inner"]]);
    const read = rowsOf(detail([invoke], 2000), new Set(["call"]), new Map([["inner", inner]]));
    expect(read.map((row) => [row.key, row.depth, row.runId])).toEqual([
      ["call", 0, "run"],
      ["call>x", 1, "inner"],
    ]);
  });

  it("that invoke themselves are shown only so deep", () => {
    const loop = { ...detail([invoke], 2000), run: { id: "inner", queued_at: 1000 } } as RunDetail;
    const open = new Set(Array.from({ length: 20 }, (_, depth) => Array(depth + 1).fill("call").join(">")));
    expect(rowsOf(loop, open, new Map([["inner", loop]])).length).toBe(7);
  });
});

describe("the window", () => {
  it("reaches to the end, or to now, and is never empty", () => {
    expect(spanOf(detail([], 1400), 9999)).toEqual({ from: 1000, to: 1400 });
    expect(spanOf(detail([], null), 9999)).toEqual({ from: 1000, to: 9999 });
    expect(spanOf(detail([], 1000), 0)).toEqual({ from: 1000, to: 1001 });
    expect(spanOf(detail([], null), 10)).toEqual({ from: 1000, to: 1001 });
  });

  it("places times in percent, cut to its edges", () => {
    const window = { from: 1000, to: 2000 };
    expect([500, 1000, 1250, 2000, 9000].map((at) => place(at, window))).toEqual([0, 0, 25, 100, 100]);
  });
});
