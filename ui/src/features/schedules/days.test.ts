import { describe, expect, it } from "vitest";

import type { Schemas } from "@/shared/api/client";

import { DAY, dayOf, daysOf, HOUR } from "./days";

const schedule = (next: number[], paused = false): Schemas["Schedule"] => ({
  function: "f",
  function_name: "F",
  app: "a",
  cron: "0 * * * *",
  paused,
  next,
  more: false,
  last: [],
});

const timer = (at: number): Schemas["Timer"] => ({ at, run_id: "r", function: "f", function_name: "F", kind: "sleep", name: "nap" });

describe("days", () => {
  it("begin at midnight of the zone", () => {
    expect(dayOf(DAY + 5, 0)).toBe(DAY);
    expect(dayOf(DAY + 5, 2 * HOUR)).toBe(DAY - 2 * HOUR);
    expect(dayOf(DAY + 5, -2 * HOUR)).toBe(2 * HOUR);
  });

  it("go on as before where a schedule fires more often than was told", () => {
    const minutes = Array.from({ length: 90 }, (_, minute) => DAY + minute * 60_000);
    const often = { ...schedule(minutes), more: true };
    const [day] = daysOf({ now: DAY, until: 2 * DAY, schedules: [often], timers: [], more: false }, 0);
    expect(day?.hours.slice(0, 4).map((hour) => hour.fires)).toEqual([60, 30, 60, 60]);
  });

  it("hold what happens in their hours, but for what is paused", () => {
    const days = daysOf(
      {
        now: DAY + 3 * HOUR,
        until: 3 * DAY,
        schedules: [schedule([DAY + 4 * HOUR, DAY + 4 * HOUR + 1, 2 * DAY]), schedule([DAY + 5 * HOUR], true)],
        timers: [timer(2 * DAY + HOUR - 1)],
        more: false,
      },
      0,
    );
    expect(days.map((day) => day.at)).toEqual([DAY, 2 * DAY]);
    expect(days[0]?.hours[4]).toEqual({ at: DAY + 4 * HOUR, fires: 2, wakes: 0 });
    expect(days[0]?.hours[5]?.fires).toBe(0);
    expect(days[1]?.hours[0]).toEqual({ at: 2 * DAY, fires: 1, wakes: 1 });
  });
});
