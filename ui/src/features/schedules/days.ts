/** What happens when, sorted into the hours of the coming days. Pure, so that it can be tested without a page. */
import type { Schemas } from "@/shared/api/client";

export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

export interface Hour {
  at: number;
  fires: number;
  wakes: number;
}

export interface Day {
  at: number;
  hours: Hour[];
}

/** The start of the day of a time, `offset` ms east of UTC. */
export function dayOf(at: number, offset: number): number {
  return Math.floor((at + offset) / DAY) * DAY - offset;
}

/** The coming days, hour by hour. `offset` is that of the zone in which days are shown. */
export function daysOf(found: Schemas["Schedules"], offset: number): Day[] {
  const days: Day[] = [];
  for (let at = dayOf(found.now, offset); at < found.until; at += DAY) {
    const hours = Array.from({ length: 24 }, (_, hour) => ({ at: at + hour * HOUR, fires: 0, wakes: 0 }));
    days.push({ at, hours });
  }
  const first = days[0]?.at ?? 0;
  const hourOf = (at: number): Hour | undefined => {
    const since = at - first;
    return days[Math.floor(since / DAY)]?.hours[Math.floor((since % DAY) / HOUR)];
  };
  for (const schedule of found.schedules) {
    if (schedule.paused) continue;
    for (const at of schedule.next) {
      const hour = hourOf(at);
      if (hour) hour.fires++;
    }
    if (schedule.more) goOn(schedule.next, days);
  }
  for (const timer of found.timers) {
    const hour = hourOf(timer.at);
    if (hour) hour.wakes++;
  }
  return days;
}

/** A schedule that fires more often than was told goes on as it did: in later hours, as often as in an hour so far. */
function goOn(next: number[], days: Day[]): void {
  const [first, last] = [next[0], next.at(-1)];
  if (first === undefined || last === undefined || last === first) return;
  const each = Math.max(1, Math.round(((next.length - 1) / (last - first)) * HOUR));
  for (const { hours } of days) {
    for (const hour of hours) if (hour.at > last) hour.fires += each;
  }
}
