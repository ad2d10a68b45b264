import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";

import { Send } from "lucide-react";
import { useState } from "react";

import { useLive } from "@/shared/api/live";
import { Button } from "@/shared/components/button";
import { At } from "@/shared/components/clock";
import { CopyButton } from "@/shared/components/copy";
import { Json } from "@/shared/components/json";
import { Skeleton, Trouble } from "@/shared/components/note";
import { Status } from "@/shared/components/status";

import { again, eventQuery } from "./api";
import { SendDialog } from "./send-dialog";
import "./events.css";

const EFFECTS: Record<string, string> = { wait: "ended a wait of", cancel: "cancelled" };

export function EventPage() {
  const { eventId } = useParams({ from: "/events/$eventId" });
  const query = useQuery(eventQuery(eventId));
  const [sending, setSending] = useState(false);
  useLive((news) => {
    const own = new Set(query.data?.runs.map((run) => run.id));
    if (news === "resync" || news.more || news.changed.some((id) => own.has(id)) || news.events.length > 0) {
      void query.refetch();
    }
  });
  if (query.isPending) return <Skeleton />;
  if (query.isError) return <Trouble error={query.error} retry={() => void query.refetch()} />;
  const { event, runs, effects } = query.data;
  return (
    <div className="page">
      <header className="page-head">
        <h1>{event.name}</h1>
        <code className="quiet">{event.internal_id}</code>
        <CopyButton text={event.internal_id} what="the id of the event" />
        <span className="quiet">
          received <At at={event.received_at} />
        </span>
        <span className="grow" />
        <Button onClick={() => setSending(true)}>
          <Send /> Send again
        </Button>
        <SendDialog open={sending} onClose={() => setSending(false)} first={again(event)} />
      </header>
      <div className="page-body event-body">
        <section>
          <h2>What it did</h2>
          {runs.length + effects.length === 0 && <p className="quiet">It started no run, and no run waited for it.</p>}
          <ul>
            {runs.map((run) => (
              <li key={run.id} className="did">
                <Status status={run.status} />
                <Link to="/runs/$runId" params={{ runId: run.id }} search={{}}>
                  {run.function_name}
                </Link>
                <code className="quiet">{run.id}</code>
              </li>
            ))}
            {effects.map((effect) => (
              <li key={`${effect.how}${effect.run_id}`} className="did">
                <Status status={effect.status} />
                <span>{EFFECTS[effect.how] ?? effect.how}</span>
                <Link to="/runs/$runId" params={{ runId: effect.run_id }} search={{}}>
                  <code>{effect.run_id}</code>
                </Link>
              </li>
            ))}
          </ul>
        </section>
        <Json label="Payload" text={JSON.stringify(event.payload)} />
      </div>
    </div>
  );
}
