import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Play } from "lucide-react";
import { useMemo } from "react";

import { answered, client, type Schemas } from "@/shared/api/client";
import { useRereading } from "@/shared/api/rereading";
import { Button } from "@/shared/components/button";
import { At, useNow, useZone } from "@/shared/components/clock";
import { Note, Skeleton, Trouble } from "@/shared/components/note";
import { lookOf } from "@/shared/components/status";
import { Tip } from "@/shared/components/tip";
import { toast, toastError } from "@/shared/components/toasts";
import { formatDuration } from "@/shared/format/time";

import { Calendar } from "./calendar";
import { daysOf } from "./days";
import "./schedules.css";

const KEY = ["schedules"];
const REREAD_MS = 3000;
const SHOWN_TIMERS = 100;
const KINDS: Record<string, string> = {
  sleep: "wakes",
  wait: "gives up waiting",
  step: "is tried again",
  discovery: "goes on",
  request: "asks again",
  deadline: "runs out of time",
};

export function SchedulesPage() {
  const query = useQuery({ queryKey: KEY, queryFn: () => answered(client.GET("/api/schedules")) });
  const { zone } = useZone();
  useRereading(() => void query.refetch(), REREAD_MS, (news) => news.functions || news.more || news.runs.length > 0);
  const days = useMemo(() => {
    if (!query.data) return [];
    const offset = zone === "utc" ? 0 : -new Date(query.data.now).getTimezoneOffset() * 60_000;
    return daysOf(query.data, offset);
  }, [query.data, zone]);
  return (
    <div className="page">
      <header className="page-head">
        <h1>Schedules</h1>
        <span className="quiet">What will happen in the next week</span>
      </header>
      <div className="page-body schedules">
        {query.isPending && <Skeleton lines={10} />}
        {query.isError && !query.data && <Trouble error={query.error} retry={() => void query.refetch()} />}
        {query.data?.schedules.length === 0 && query.data.timers.length === 0 && (
          <Note title="Nothing is planned">
            <p>Functions with a schedule appear here, and runs that sleep or wait.</p>
          </Note>
        )}
        {query.data && query.data.schedules.length + query.data.timers.length > 0 && (
          <>
            <Calendar days={days} now={query.data.now} />
            <ScheduleList schedules={query.data.schedules} now={query.data.now} />
            <TimerList timers={query.data.timers} more={query.data.more} />
          </>
        )}
      </div>
    </div>
  );
}

function ScheduleList({ schedules, now }: { schedules: Schemas["Schedule"][]; now: number }) {
  if (schedules.length === 0) return null;
  return (
    <section>
      <h2>Functions with a schedule</h2>
      <ul>
        {schedules.map((one) => (
          <li key={`${one.function} ${one.cron}`} className="schedule">
            <div>
              <Link to="/functions/$slug" params={{ slug: one.function }} className="schedule-name">
                {one.function_name}
              </Link>
              <p className="quiet">
                <code>{one.cron}</code>
              </p>
            </div>
            <NextFire schedule={one} now={now} />
            <Lately runs={one.last} />
            <RunNow slug={one.function} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function NextFire({ schedule, now }: { schedule: Schemas["Schedule"]; now: number }) {
  useNow();
  const next = schedule.next[0];
  if (schedule.paused) {
    return (
      <span className="pill" data-tone="warn">
        paused
      </span>
    );
  }
  if (next === undefined) return <span className="quiet">not in the next week</span>;
  return (
    <span>
      <At at={next} /> <span className="quiet">in {formatDuration(next - now)}</span>
    </span>
  );
}

function Lately({ runs }: { runs: Schemas["Run"][] }) {
  if (runs.length === 0) return <span className="quiet">has not run yet</span>;
  return (
    <span className="lately">
      {[...runs].reverse().map((run) => {
        const look = lookOf(run.status);
        return (
          <Tip key={run.id} text={look.word}>
            <Link to="/runs/$runId" params={{ runId: run.id }} search={{}} aria-label={`${look.word} run`}>
              <span className="status" data-tone={look.tone} data-hollow={look.hollow} />
            </Link>
          </Tip>
        );
      })}
    </span>
  );
}

function RunNow({ slug }: { slug: string }) {
  const queries = useQueryClient();
  const start = (): void => {
    void answered(client.POST("/api/functions/{slug}/start", { params: { path: { slug } }, body: {} })).then(() => {
      toast("Started");
      void queries.invalidateQueries({ queryKey: KEY });
    }, toastError);
  };
  return (
    <Button onClick={start}>
      <Play /> Run now
    </Button>
  );
}

function TimerList({ timers, more }: { timers: Schemas["Timer"][]; more: boolean }) {
  if (timers.length === 0) return null;
  const shown = timers.slice(0, SHOWN_TIMERS);
  return (
    <section>
      <h2>Runs that go on by themselves</h2>
      <ul>
        {shown.map((one) => (
          <li key={`${one.run_id} ${one.at} ${one.name}`} className="timer">
            <span>
              <At at={one.at} />
            </span>
            <Link to="/runs/$runId" params={{ runId: one.run_id }} search={{}}>
              {one.function_name}
            </Link>
            <span className="quiet">
              {KINDS[one.kind] ?? one.kind}
              {one.name && (
                <>
                  {" "}
                  at <code>{one.name}</code>
                </>
              )}
            </span>
          </li>
        ))}
      </ul>
      {(more || timers.length > shown.length) && <p className="quiet">And more later.</p>}
    </section>
  );
}
