import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import type { FunctionHead, Schemas } from "@/shared/api/client";
import { functionsQuery } from "@/shared/api/functions";
import { useLive } from "@/shared/api/live";
import { healthQuery, REREAD_MS } from "@/shared/api/metrics";
import { useRereading } from "@/shared/api/rereading";
import { Note, Skeleton, Trouble } from "@/shared/components/note";
import { Spark } from "@/shared/components/spark";

import { TriggerPill } from "./trigger-pill";
import "./functions.css";

export function FunctionsPage() {
  const query = useQuery(functionsQuery);
  const health = useQuery(healthQuery);
  useRereading(() => void health.refetch(), REREAD_MS, (news) => news.more || news.changed.length > 0);
  const [text, setText] = useState("");
  useLive((news) => {
    if (news === "resync" || news.functions || news.apps) void query.refetch();
  });
  const wanted = text.trim().toLowerCase();
  const shown = query.data?.functions.filter((one) =>
    [one.name, one.id, one.app, ...one.triggers.map((t) => t.event ?? "")].some((word) =>
      word.toLowerCase().includes(wanted),
    ),
  );
  return (
    <div className="page">
      <header className="page-head">
        <h1>Functions</h1>
        <input
          className="input"
          type="search"
          placeholder="Name, app or event"
          aria-label="Search functions"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </header>
      <div className="page-body">
        {query.isPending && <Skeleton />}
        {query.isError && <Trouble error={query.error} retry={() => void query.refetch()} />}
        {shown?.length === 0 &&
          (wanted ? (
            <Note title="No function like that" />
          ) : (
            <Note title="No functions yet">
              <p>They appear when an app is found or added.</p>
            </Note>
          ))}
        {shown && shown.length > 0 && <List functions={shown} health={health.data} />}
      </div>
    </div>
  );
}

function List({ functions, health }: { functions: FunctionHead[]; health: Schemas["HealthList"] | undefined }) {
  const byFunction = new Map(health?.functions.map((one) => [one.function, one]));
  return (
    <ul className="cards">
      {functions.map((one) => (
        <li key={one.id} className="card">
          <div>
            <Link to="/functions/$slug" params={{ slug: one.id }} className="card-title">
              {one.name}
            </Link>
            <p className="quiet">{one.app}</p>
          </div>
          <div className="pills">
            {one.triggers.map((trigger) => (
              <TriggerPill key={trigger.event ?? trigger.cron} trigger={trigger} />
            ))}
            {one.triggers.length === 0 && <span className="pill">only invoked</span>}
          </div>
          <HealthOf health={byFunction.get(one.id)} />
          <div className="pills">
            {one.paused && (
              <span className="pill" data-tone="warn">
                {one.paused === "hold" ? "paused: new runs are held" : "paused: new runs are skipped"}
              </span>
            )}
            {one.overridden && (
              <span className="pill" data-tone="busy">
                limits set by hand
              </span>
            )}
          </div>
        </li>
      ))}
    </ul>
  );
}

function HealthOf({ health }: { health: Schemas["Health"] | undefined }) {
  if (!health) return <span className="quiet">no runs in the last day</span>;
  const ended = sum(health.ended);
  const failed = sum(health.failed);
  const share = ended === 0 ? 0 : (100 * failed) / ended;
  const words = `${ended} runs in the last day, ${failed} failed`;
  return (
    <div className="health">
      <Spark ended={health.ended} failed={health.failed} label={words} />
      <span className="quiet">
        {ended} {ended === 1 ? "run" : "runs"}
        {failed > 0 && <strong> {share.toFixed(share < 10 ? 1 : 0)} % failed</strong>}
      </span>
    </div>
  );
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
