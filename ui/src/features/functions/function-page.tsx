import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { Pause, Play } from "lucide-react";

import { answered, client, type FunctionDetail } from "@/shared/api/client";
import { functionQuery } from "@/shared/api/functions";
import { useLive } from "@/shared/api/live";
import { Button } from "@/shared/components/button";
import { Json } from "@/shared/components/json";
import { Skeleton, Trouble } from "@/shared/components/note";
import { toast, toastError } from "@/shared/components/toasts";

import { TriggerPill } from "./trigger-pill";
import "./functions.css";

export function FunctionPage() {
  const { slug } = useParams({ from: "/functions/$slug" });
  const query = useQuery(functionQuery(slug));
  useLive((news) => {
    if (news === "resync" || news.functions) void query.refetch();
  });
  if (query.isPending) return <Skeleton />;
  if (query.isError) return <Trouble error={query.error} retry={() => void query.refetch()} />;
  return <Shown detail={query.data} />;
}

function Shown({ detail }: { detail: FunctionDetail }) {
  const { head } = detail;
  return (
    <div className="page">
      <header className="page-head">
        <h1>{head.name}</h1>
        {head.paused && (
          <span className="pill" data-tone="warn">
            paused: new runs are {head.paused === "hold" ? "held" : "skipped"}
          </span>
        )}
        <span className="grow" />
        <Link className="button" to="/runs" search={{ function: [head.id] }}>
          Its runs
        </Link>
        <PauseButton detail={detail} />
      </header>
      <div className="page-body function-body">
        <dl className="facts">
          <dt>Id</dt>
          <dd>
            <code>{head.id}</code>
          </dd>
          <dt>App</dt>
          <dd>{head.app}</dd>
          <dt>Started by</dt>
          <dd className="pills">
            {head.triggers.map((trigger) => (
              <TriggerPill key={trigger.event ?? trigger.cron} trigger={trigger} />
            ))}
          </dd>
          <dt>Retries</dt>
          <dd>{head.retries}</dd>
          <dt>Called at</dt>
          <dd>
            <code>{detail.url}</code>
          </dd>
          <dt>In the queue</dt>
          <dd>{detail.queued}</dd>
        </dl>
        {detail.overrides !== null && <Json label="Set by hand, in place of the code's" text={JSON.stringify(detail.overrides)} />}
        <Json label="Configuration, as the code has it" text={JSON.stringify(detail.config)} />
      </div>
    </div>
  );
}

function PauseButton({ detail }: { detail: FunctionDetail }) {
  const queries = useQueryClient();
  const set = (mode: "hold" | null): void => {
    const slug = detail.head.id;
    void answered(client.POST("/api/functions/{slug}/pause", { params: { path: { slug } }, body: { mode } })).then(
      () => {
        void queries.invalidateQueries({ queryKey: ["functions"] });
        toast(mode ? "Paused: new runs are held" : "Resumed", "ok", {
          label: "Undo",
          run: () => set(mode ? null : "hold"),
        });
      },
      toastError,
    );
  };
  return detail.head.paused ? (
    <Button look="primary" onClick={() => set(null)}>
      <Play /> Resume
    </Button>
  ) : (
    <Button onClick={() => set("hold")}>
      <Pause /> Pause
    </Button>
  );
}
