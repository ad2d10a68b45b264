import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { Pause, Play } from "lucide-react";
import { useState } from "react";

import { answered, client, type FunctionDetail } from "@/shared/api/client";
import { functionQuery } from "@/shared/api/functions";
import { useLive } from "@/shared/api/live";
import { metricsQuery, type Period, REREAD_MS } from "@/shared/api/metrics";
import { useRereading } from "@/shared/api/rereading";
import { Button } from "@/shared/components/button";
import { Json } from "@/shared/components/json";
import { MetricsCharts, Totals } from "@/shared/components/metrics-charts";
import { Skeleton, Trouble } from "@/shared/components/note";
import { PeriodChoice } from "@/shared/components/period-choice";
import { toast, toastError } from "@/shared/components/toasts";

import { StartButton } from "./start-dialog";
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
        <StartButton head={head} example="{}" />
      </header>
      <div className="page-body function-body">
        <Charts slug={head.id} />
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

function Charts({ slug }: { slug: string }) {
  const [period, setPeriod] = useState<Period>("24h");
  const search = { period, function: [slug] };
  const query = useQuery(metricsQuery(search));
  useRereading(() => void query.refetch(), REREAD_MS, (news) => news.more || news.runs.some((run) => run.function === slug));
  if (!query.data) return <Skeleton lines={4} />;
  return (
    <>
      <div className="row-between">
        <Totals total={query.data.total} />
        <PeriodChoice search={search} onChange={setPeriod} />
      </div>
      <MetricsCharts metrics={query.data} />
    </>
  );
}
