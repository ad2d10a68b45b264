import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { Tabs } from "radix-ui";
import { RotateCcw } from "lucide-react";
import { useState } from "react";

import type { RunDetail, Schemas } from "@/shared/api/client";
import { Button } from "@/shared/components/button";
import { At, Lasting } from "@/shared/components/clock";
import { Json } from "@/shared/components/json";
import { Skeleton, Trouble } from "@/shared/components/note";
import { Status } from "@/shared/components/status";
import { toast, toastError } from "@/shared/components/toasts";

import { type Result, rerunRun, resultQuery } from "./api";
import { LogView } from "./logs";
import { nameOf, type Row } from "./rows";

/** What is known of the selected line, or of the run if none is. */
export function Details({ detail, row }: { detail: RunDetail; row: Row | null }) {
  const output = row ? (row.attempt?.output ?? row.line.output) : detail.output;
  return (
    <aside className="details" aria-label={row ? `Details of ${row.name}` : "Details of the run"}>
      <h2>{row ? row.name : "Run"}</h2>
      <Tabs.Root defaultValue="result" key={row ? "line" : "run"}>
        <Tabs.List className="tabs" aria-label="Details">
          <Tabs.Trigger className="tab" value="result">
            Result
          </Tabs.Trigger>
          <Tabs.Trigger className="tab" value="input">
            {row ? "Timing" : "Trigger"}
          </Tabs.Trigger>
          <Tabs.Trigger className="tab" value="logs">
            Logs
          </Tabs.Trigger>
          {!row && detail.metadata.length > 0 && (
            <Tabs.Trigger className="tab" value="metadata">
              Metadata
            </Tabs.Trigger>
          )}
        </Tabs.List>
        <Tabs.Content value="result" className="tab-body">
          {output === null ? <NoResult detail={detail} row={row} /> : <ShownResult output={output} ended={detail.run.ended_at} />}
          {row && <FromHere detail={detail} row={row} />}
        </Tabs.Content>
        <Tabs.Content value="input" className="tab-body">
          {row ? <Timing row={row} /> : <TriggerEvents detail={detail} />}
        </Tabs.Content>
        <Tabs.Content value="logs" className="tab-body">
          <LogView runId={row?.runId ?? detail.run.id} step={row ? (row.line.step_id ?? "") : null} />
        </Tabs.Content>
        <Tabs.Content value="metadata" className="tab-body">
          <Metadata list={detail.metadata} />
        </Tabs.Content>
      </Tabs.Root>
    </aside>
  );
}

function NoResult({ detail, row }: { detail: RunDetail; row: Row | null }) {
  const open = row ? row.ended === null : detail.run.ended_at === null;
  return <p className="quiet">{open ? "There is no result yet." : "It gave no result."}</p>;
}

function ShownResult({ output, ended }: { output: string; ended: number | null }) {
  const query = useQuery(resultQuery(output, ended));
  if (query.isPending) return <Skeleton lines={4} />;
  if (query.isError) return <Trouble error={query.error} retry={() => void query.refetch()} />;
  return <ResultView result={query.data} />;
}

function ResultView({ result }: { result: Result }) {
  return (
    <>
      {result.error && <Failure error={result.error} />}
      {result.data !== null && <Json label="Output" text={result.data} />}
      {result.input !== null && <Json label="Input" text={result.input} />}
    </>
  );
}

function Failure({ error }: { error: NonNullable<Result["error"]> }) {
  return (
    <section className="failure" data-tone="bad" aria-label="Error">
      <h3>{error.name}</h3>
      <p>{error.message}</p>
      {error.stack && (
        <details open>
          <summary>Stack</summary>
          {/* It scrolls, so it must be reachable without a mouse. */}
          <pre className="json" tabIndex={0}>
            {error.stack}
          </pre>
        </details>
      )}
      {error.cause !== null && error.cause !== undefined && <Json label="Cause" text={JSON.stringify(error.cause)} />}
    </section>
  );
}

function Timing({ row }: { row: Row }) {
  const { line } = row;
  const tries = row.attempt ? [row.attempt] : line.tries;
  return (
    <>
      <dl className="facts">
        <dt>Status</dt>
        <dd>
          <Status status={row.status} />
        </dd>
        <dt>Queued</dt>
        <dd>
          <At at={row.queued} />
        </dd>
        <dt>Waited</dt>
        <dd>
          <Lasting from={row.queued} to={row.started ?? row.ended} />
        </dd>
        <dt>Took</dt>
        <dd>
          <Lasting from={row.started} to={row.ended} />
        </dd>
        {line.until !== null && (
          <>
            <dt>{line.kind === "sleep" ? "Sleeps until" : "Waits until"}</dt>
            <dd>
              <At at={line.until} />
            </dd>
          </>
        )}
        {line.event && <Named name="Waits for" value={line.event} />}
        {line.expression && <Named name="If" value={line.expression} />}
        {line.timed_out !== null && (
          <Named name="Timed out" value={line.timed_out ? "yes" : "no"} />
        )}
        {line.target && <Named name="Invokes" value={line.target} />}
        {line.child && (
          <>
            <dt>Its run</dt>
            <dd>
              <Link to="/runs/$runId" params={{ runId: line.child }} search={{}}>
                <code>{line.child}</code>
              </Link>
            </dd>
          </>
        )}
        {line.found && <Named name="Ended by" value={line.found} />}
        {line.copied_from && <Named name="Copied from" value={line.copied_from} />}
      </dl>
      {tries.length > 0 && <Tries tries={tries} />}
      <Metadata list={line.metadata} />
    </>
  );
}

function Named({ name, value }: { name: string; value: string }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>
        <code>{value}</code>
      </dd>
    </>
  );
}

function Tries({ tries }: { tries: Schemas["Try"][] }) {
  return (
    <table className="tries">
      <thead>
        <tr>
          <th scope="col">Attempt</th>
          <th scope="col">Status</th>
          <th scope="col">Waited</th>
          <th scope="col">Took</th>
          <th scope="col">HTTP</th>
        </tr>
      </thead>
      <tbody>
        {tries.map((one) => (
          <tr key={one.number}>
            <td>{one.number + 1}</td>
            <td>
              <Status status={one.status} />
            </td>
            <td>
              <Lasting from={one.due_at} to={one.started_at ?? one.ended_at} />
            </td>
            <td>
              <Lasting from={one.started_at} to={one.ended_at} />
            </td>
            <td>{one.http_status ?? "–"}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function TriggerEvents({ detail }: { detail: RunDetail }) {
  return (
    <>
      {detail.events.length === 0 && <p className="quiet">A schedule started it: {detail.run.cron}.</p>}
      {detail.events.map((event) => (
        <div key={event.internal_id}>
          <p>
            <Link to="/events/$eventId" params={{ eventId: event.internal_id }}>
              {event.name}
            </Link>{" "}
            <span className="quiet">
              <At at={event.received_at} />
            </span>
          </p>
          <Json label="Payload" text={JSON.stringify(event.payload)} />
        </div>
      ))}
    </>
  );
}

function Metadata({ list }: { list: Schemas["Metadata"][] }) {
  return (
    <>
      {list.map((one) => (
        <Json key={one.kind} label={one.kind} text={JSON.stringify(one.values)} />
      ))}
    </>
  );
}

/** Run again from this step, perhaps with other arguments. */
function FromHere({ detail, row }: { detail: RunDetail; row: Row }) {
  const [text, setText] = useState<string | null>(null);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const step = row.line.step_id;
  if (!step || detail.run.ended_at === null || row.runId !== detail.run.id) return null;
  const start = (): void => {
    let input: unknown;
    try {
      input = text === null || text.trim() === "" ? undefined : JSON.parse(text);
    } catch {
      toast("The arguments are not JSON. They are a list, such as [42, \"x\"].", "bad");
      return;
    }
    void rerunRun(detail.run.id, step, input).then(
      ({ run_id: runId }) => {
        toast(`Started again from ${nameOf(row.line)}`, "ok");
        void queries.invalidateQueries({ queryKey: ["runs"] });
        void navigate({ to: "/runs/$runId", params: { runId }, search: {} });
      },
      toastError,
    );
  };
  return (
    <section className="from-here">
      {text !== null && (
        <label>
          Arguments of the step, as a JSON list; empty to leave them as the code gives them
          <textarea
            className="input"
            rows={5}
            spellCheck={false}
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        </label>
      )}
      <div className="row">
        <Button onClick={start}>
          <RotateCcw /> Rerun from here
        </Button>
        {text === null && (
          <Button look="quiet" onClick={() => setText("[]")}>
            with other arguments
          </Button>
        )}
      </div>
    </section>
  );
}
