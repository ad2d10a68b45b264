import { useZone } from "@/shared/components/clock";
import { Tip } from "@/shared/components/tip";

import { type Day, type Hour, HOUR } from "./days";

const LEVELS = [0, 1, 3, 10, 30];

function level(count: number): number {
  return LEVELS.filter((least) => count > 0 && count >= least).length;
}

function words({ fires, wakes }: Hour): string {
  const parts: string[] = [];
  if (fires > 0) parts.push(`${fires} ${fires === 1 ? "start" : "starts"} of schedules`);
  if (wakes > 0) parts.push(`${wakes} ${wakes === 1 ? "run goes" : "runs go"} on`);
  return parts.length === 0 ? "nothing" : parts.join(", ");
}

/** The coming days as rows of hours; the fuller an hour, the stronger its colour. */
export function Calendar({ days, now }: { days: Day[]; now: number }) {
  const { zone } = useZone();
  const options: Intl.DateTimeFormatOptions = zone === "utc" ? { timeZone: "UTC" } : {};
  const day = new Intl.DateTimeFormat("en-GB", { ...options, weekday: "short", day: "numeric", month: "short" });
  const clock = new Intl.DateTimeFormat("en-GB", { ...options, hour: "2-digit", minute: "2-digit" });
  return (
    <div className="calendar" role="table" aria-label="The coming days by the hour">
      <div role="row" className="calendar-row calendar-head">
        <span role="columnheader">Day</span>
        {Array.from({ length: 24 }, (_, hour) => (
          <span key={hour} role="columnheader" aria-label={`${hour} o'clock`}>
            {hour % 3 === 0 ? hour : ""}
          </span>
        ))}
      </div>
      {days.map(({ at, hours }) => (
        <div key={at} role="row" className="calendar-row">
          <span role="rowheader">{day.format(at)}</span>
          {hours.map((hour) => (
            <Tip key={hour.at} text={`${clock.format(hour.at)}: ${words(hour)}`}>
              <span
                role="cell"
                aria-label={words(hour)}
                data-level={level(hour.fires + hour.wakes)}
                data-past={hour.at + HOUR <= now || undefined}
                data-now={(hour.at <= now && now < hour.at + HOUR) || undefined}
              />
            </Tip>
          ))}
        </div>
      ))}
    </div>
  );
}
