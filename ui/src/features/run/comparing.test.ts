import { describe, expect, it } from "vitest";

import type { Line, RunDetail } from "@/shared/api/client";

import { differenceOf, pairsOf, tookOf } from "./comparing";

const line = (id: string, status = "COMPLETED"): Line =>
  ({ key: id, step_id: id, name: id, kind: "step", status, is_end: false, queued_at: 0, started_at: 5, ended_at: 30 }) as unknown as Line;
const run = (...lines: Line[]): RunDetail => ({ lines }) as unknown as RunDetail;

describe("two runs", () => {
  it("are put beside each other by their steps", () => {
    const pairs = pairsOf(run(line("a"), line("b"), line("c")), run(line("a"), line("x"), line("c")));
    expect(pairs.map((pair) => [pair.name, differenceOf(pair)])).toEqual([
      ["a", null],
      ["x", "path"],
      ["b", "path"],
      ["c", null],
    ]);
  });

  it("differ in how a step ended before what it gave", () => {
    const [pair] = pairsOf(run(line("a")), run(line("a", "FAILED")));
    expect(pair && differenceOf(pair, ["1", "2"])).toBe("status");
    const [same] = pairsOf(run(line("a")), run(line("a")));
    expect(same && differenceOf(same, ["1", "2"])).toBe("output");
    expect(same && differenceOf(same, ["1", "1"])).toBeNull();
  });

  it("tell how long a step took", () => {
    expect(tookOf(line("a"))).toBe(25);
    expect(tookOf(null)).toBeNull();
  });
});
