import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { DropdownMenu } from "radix-ui";
import { Columns2, Download, Ellipsis, RotateCcw, X } from "lucide-react";

import { answered, BASE, client, type RunDetail } from "@/shared/api/client";
import { Button } from "@/shared/components/button";
import { Ago, At, Lasting, useNow, useZone } from "@/shared/components/clock";
import { CopyButton } from "@/shared/components/copy";
import { Status } from "@/shared/components/status";
import { toast, toastError } from "@/shared/components/toasts";
import { formatClock, formatRelative } from "@/shared/format/time";

import { cancelRun, rerunRun, whyQuery } from "./api";

const TIME = /\d{4}-\d{2}-\d{2}T[\d:.]+Z/g;

/** What a run is, how it stands, and what can be done with it. */
export function Head({ detail }: { detail: RunDetail }) {
  const { run } = detail;
  const live = run.ended_at === null;
  return (
    <header className="run-head">
      <nav aria-label="Where this is">
        <Link to="/runs" search={{}}>
          Runs
        </Link>
        <span aria-hidden> / </span>
        <code>{run.id}</code>
        <CopyButton text={run.id} what="the id of the run" />
      </nav>
      <div className="run-title">
        <h1>
          <Link to="/functions/$slug" params={{ slug: run.function }}>
            {run.function_name}
          </Link>
        </h1>
        <Status status={run.status} />
        <span className="grow" />
        <Actions detail={detail} />
      </div>
      <dl className="run-facts">
        <Fact name="App">{run.app || "–"}</Fact>
        <Fact name="Trigger">{run.cron ?? run.event_name}</Fact>
        <Fact name="Queued">
          <At at={run.queued_at} />
        </Fact>
        <Fact name="Waited">
          <Lasting from={run.queued_at} to={run.started_at ?? run.ended_at} />
        </Fact>
        <Fact name={live ? "Running for" : "Took"}>
          <Lasting from={run.started_at} to={run.ended_at} />
        </Fact>
        {run.ended_at !== null && (
          <Fact name="Ended">
            <Ago at={run.ended_at} />
          </Fact>
        )}
        {run.original_run_id && (
          <Fact name="Rerun of">
            <RunLink id={run.original_run_id} />
          </Fact>
        )}
        {detail.parent && (
          <Fact name="Invoked by">
            <RunLink id={detail.parent} />
          </Fact>
        )}
        {detail.from_step && <Fact name="From step">{detail.from_step}</Fact>}
      </dl>
      {live && <WhyWaiting runId={run.id} />}
      {!live && detail.reason && run.status !== "COMPLETED" && <p className="why">{detail.reason}</p>}
    </header>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function RunLink({ id }: { id: string }) {
  return (
    <Link to="/runs/$runId" params={{ runId: id }} search={{}}>
      <code>…{id.slice(-6)}</code>
    </Link>
  );
}

function WhyWaiting({ runId }: { runId: string }) {
  const why = useQuery(whyQuery(runId));
  const { zone } = useZone();
  const now = useNow();
  if (!why.data) return null;
  return (
    <p className="why" data-tone="warn" role="status">
      {why.data.text.replace(TIME, (time) => {
        const at = Date.parse(time);
        return `${formatClock(at, now, zone)} (${formatRelative(at, now)})`;
      })}
    </p>
  );
}

function Actions({ detail }: { detail: RunDetail }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const { run } = detail;
  const rerun = (): void => {
    void rerunRun(run.id).then(
      ({ run_id: runId }) => {
        toast("Started again", "ok");
        void navigate({ to: "/runs/$runId", params: { runId }, search: {} });
      },
      toastError,
    );
  };
  const cancel = (): void => {
    void cancelRun(run.id).then(
      ({ outcomes }) => {
        const problem = outcomes[0]?.problem;
        toast(problem ?? "Cancelled", problem ? "warn" : "ok", problem ? undefined : { label: "Run again", run: rerun });
        void queries.invalidateQueries({ queryKey: ["run", run.id] });
      },
      toastError,
    );
  };
  const origin = location.origin + BASE;
  return (
    <div className="run-actions">
      {run.ended_at === null && (
        <Button look="danger" onClick={cancel}>
          <X /> Cancel
        </Button>
      )}
      <Button onClick={rerun}>
        <RotateCcw /> Rerun
      </Button>
      <DropdownMenu.Root>
        <DropdownMenu.Trigger asChild>
          <Button aria-label="More">
            <Ellipsis />
          </Button>
        </DropdownMenu.Trigger>
        <DropdownMenu.Portal>
          <DropdownMenu.Content className="menu" align="end" sideOffset={4}>
            <Item text={`perdure run ${run.id}`} label="Copy the command for a terminal" />
            <Item text={`curl -X POST ${origin}/v2/runs/${run.id}/rerun`} label="Copy the rerun as cURL" />
            <Item text={`${origin}/runs/${run.id}`} label="Copy the address" />
            <CompareItem run={run} />
            <DropdownMenu.Item className="menu-item" asChild>
              <a href={`${BASE}/v1/runs/${run.id}/export`} download={`run-${run.id}.json`}>
                <Download size={15} aria-hidden /> Export as a file
              </a>
            </DropdownMenu.Item>
          </DropdownMenu.Content>
        </DropdownMenu.Portal>
      </DropdownMenu.Root>
    </div>
  );
}

function Item({ text, label }: { text: string; label: string }) {
  return (
    <DropdownMenu.Item
      className="menu-item"
      onSelect={() => void navigator.clipboard.writeText(text).then(() => toast("Copied", "ok"))}
    >
      {label}
    </DropdownMenu.Item>
  );
}

/** Beside the newest other run of the function that completed; on that page any other can be chosen. */
function CompareItem({ run }: { run: RunDetail["run"] }) {
  const navigate = useNavigate();
  const compare = (): void => {
    const query = { function: [run.function], status: ["COMPLETED" as const], limit: 2 };
    void answered(client.GET("/api/runs", { params: { query } })).then(({ runs }) => {
      const other = runs.find((one) => one.id !== run.id);
      if (other === undefined) toast("There is no other run of this function that completed", "warn");
      else void navigate({ to: "/runs/$runId/compare/$otherId", params: { runId: run.id, otherId: other.id } });
    }, toastError);
  };
  return (
    <DropdownMenu.Item className="menu-item" onSelect={compare}>
      <Columns2 size={15} aria-hidden /> Compare with another run
    </DropdownMenu.Item>
  );
}
