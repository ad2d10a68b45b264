import { describe, expect, it } from "vitest";

import { pretty } from "./json";
import { formatDuration, formatExact, formatRelative } from "./time";

describe("durations", () => {
  it.each([
    [0, "0 ms"],
    [999, "999 ms"],
    [1000, "1 s"],
    [1234, "1.23 s"],
    [59_949, "59.9 s"],
    [60_000, "1 min"],
    [252_000, "4 min 12 s"],
    [3_600_000 * 26, "1 d 2 h"],
    [-5, "0 ms"],
  ])("%d ms is %s", (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });
});

describe("relative times", () => {
  it("tells the past from the future", () => {
    expect(formatRelative(0, 12_000)).toBe("12 s ago");
    expect(formatRelative(3 * 3_600_000, 0)).toBe("in 3 h");
    expect(formatRelative(10, 20)).toBe("just now");
  });
});

describe("exact times", () => {
  it("names the zone and the milliseconds", () => {
    expect(formatExact(Date.UTC(2026, 10, 24, 18, 30, 5, 7), "utc")).toBe("24 Nov 2026, 18:30:05.007 UTC");
  });
});

describe("JSON", () => {
  it("is indented", () => {
    expect(pretty('{"a":[1,{}],"b":"x:,y"}')).toBe('{\n  "a": [\n    1,\n    {}\n  ],\n  "b": "x:,y"\n}');
  });

  it("keeps numbers that JavaScript cannot hold", () => {
    expect(pretty('{"id":1152921504606846976,"e":[]}')).toBe('{\n  "id": 1152921504606846976,\n  "e": []\n}');
  });

  it("leaves alone what is no JSON", () => {
    expect(pretty("<html>")).toBe("<html>");
  });
});
