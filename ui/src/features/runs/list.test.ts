import { describe, expect, it } from "vitest";

import type { Run } from "@/shared/api/client";

import { patched, type RunPages } from "./list";
import { readRunsSearch } from "./search";

const run = (id: string, status: Run["status"] = "RUNNING"): Run => ({
  id,
  status,
  function: "f",
  function_name: "F",
  app: "a",
  trigger: "event",
  event_name: "e",
  event_ids: [],
  queued_at: 0,
  started_at: 0,
  ended_at: null,
  cron: null,
  original_run_id: null,
});

const pages = (...ids: string[]): RunPages => ({
  pages: [{ runs: ids.map((id) => run(id)), cursor: null }],
  pageParams: [""],
});

const ids = (found: RunPages): string[] => found.pages.flatMap((page) => page.runs.map((one) => one.id));

describe("what has just changed", () => {
  it("replaces a known run in its place", () => {
    const next = patched(pages("3", "2"), [run("2", "COMPLETED")], {});
    expect(ids(next)).toEqual(["3", "2"]);
    expect(next.pages[0]?.runs[1]?.status).toBe("COMPLETED");
  });

  it("puts new runs on top, newest first", () => {
    expect(ids(patched(pages("3"), [run("4"), run("5")], {}))).toEqual(["5", "4", "3"]);
  });

  it("leaves out an old run that is on no page yet", () => {
    expect(ids(patched(pages("3"), [run("1")], {}))).toEqual(["3"]);
  });

  it("drops a run that the search does not hold any more, and takes none that it never held", () => {
    const next = patched(pages("3", "2"), [run("2", "FAILED"), run("9", "FAILED")], { status: ["RUNNING"] });
    expect(ids(next)).toEqual(["3"]);
  });
});

describe("the address", () => {
  it("leaves out what is not understood", () => {
    expect(readRunsSearch({ status: ["FAILED", "GONE"], span: "2y", time: "x", function: "f", extra: 1 })).toEqual({
      status: ["FAILED"],
      function: ["f"],
    });
  });
});
