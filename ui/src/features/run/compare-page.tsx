import { useQueries, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useState } from "react";

import { answered, client, type Line, type Run, type RunDetail } from "@/shared/api/client";
import { At } from "@/shared/components/clock";
import { Json } from "@/shared/components/json";
import { Skeleton, Trouble } from "@/shared/components/note";
import { Status } from "@/shared/components/status";
import { formatDuration } from "@/shared/format/time";

import { type Result, resultQuery, runQuery } from "./api";
import { type Difference, differenceOf, type Pair, pairsOf, tookOf } from "./comparing";
import "./run.css";
import "./compare.css";

/** Steps whose outputs are compared; those of longer runs are compared by their path and end only. */
const MOST_OUTPUTS = 100;
const WORDS: Record<Exclude<Difference, null>, string> = {
  path: "only in one",
  status: "ended otherwise",
  output: "gave something else",
};

/** A run beside another of the same function: where they part, and what each step gave and took. */
export function ComparePage() {
  const { runId, otherId } = useParams({ from: "/runs/$runId/compare/$otherId" });
  const left = useQuery(runQuery(runId));
  const right = useQuery(runQuery(otherId));
  const error = left.error ?? right.error;
  if (error) return <Trouble error={error} />;
  if (!left.data || !right.data) return <Skeleton lines={12} />;
  return <Compared left={left.data} right={right.data} />;
}

function Compared({ left, right }: { left: RunDetail; right: RunDetail }) {
  const pairs = pairsOf(left, right);
  const outputs = useOutputs(pairs, left, right);
  const [open, setOpen] = useState<string | null>(null);
  const different = pairs.map((pair, index) => differenceOf(pair, outputs[index]?.text));
  const first = different.findIndex((one) => one !== null);
  return (
    <div className="page">
      <header className="page-head">
        <h1>Compare</h1>
        <span className="quiet">{left.run.function_name}</span>
        <OtherChoice left={left.run} right={right.run} />
      </header>
      <div className="page-body compare">
        <p role="status">{first < 0 ? "Both took the same path, and every step gave the same." : firstWords(pairs[first], different[first])}</p>
        <table>
          <thead>
            <tr>
              <th scope="col">Step</th>
              <RunHead run={left.run} />
              <RunHead run={right.run} />
            </tr>
          </thead>
          <tbody>
            {pairs.map((pair, index) => {
              const difference = different[index] ?? null;
              return [
                <tr key={pair.key} data-first={index === first || undefined} data-different={difference !== null || undefined}>
                  <th scope="row">
                    <button type="button" aria-expanded={open === pair.key} onClick={() => setOpen(open === pair.key ? null : pair.key)}>
                      {pair.name}
                    </button>
                    {difference && <span className="pill" data-tone="warn">{WORDS[difference]}</span>}
                  </th>
                  <Side line={pair.left} other={pair.right} />
                  <Side line={pair.right} other={pair.left} />
                </tr>,
                open === pair.key && (
                  <tr key={`${pair.key} outputs`}>
                    <td />
                    {(["left", "right"] as const).map((side) => (
                      <td key={side}>
                        <Output result={outputs[index]?.[side]} />
                      </td>
                    ))}
                  </tr>
                ),
              ];
            })}
          </tbody>
        </table>
      </div>
    </div>
  );
}

function firstWords(pair: Pair | undefined, difference: Difference | undefined): string {
  if (!pair || !difference) return "";
  if (difference === "path") return `They part at ${pair.name}: only ${pair.left ? "the left" : "the right"} one has it.`;
  return `The first difference is ${pair.name}: it ${WORDS[difference]}.`;
}

function RunHead({ run }: { run: Run }) {
  return (
    <th scope="col">
      <Link to="/runs/$runId" params={{ runId: run.id }} search={{}}>
        <code>…{run.id.slice(-8)}</code>
      </Link>{" "}
      <Status status={run.status} /> <span className="quiet"><At at={run.queued_at} /></span>
    </th>
  );
}

function Side({ line, other }: { line: Line | null; other: Line | null }) {
  const took = tookOf(line);
  const against = tookOf(other);
  if (line === null) return <td className="quiet">–</td>;
  const longer = took !== null && against !== null && took > 2 * against && took - against > 100;
  return (
    <td>
      <Status status={line.status} />{" "}
      <span className={longer ? "longer" : "quiet"}>{took === null ? "" : formatDuration(took)}</span>
      {line.tries.length > 1 && <span className="pill">{line.tries.length} tries</span>}
    </td>
  );
}

function Output({ result }: { result: Result | undefined }) {
  if (!result) return <span className="quiet">no result</span>;
  if (result.error) return <Json label="Error" text={JSON.stringify(result.error)} />;
  return result.data === null ? <span className="quiet">nothing</span> : <Json label="Output" text={result.data} />;
}

interface Outputs {
  left: Result | undefined;
  right: Result | undefined;
  text: [string | null, string | null] | undefined;
}

/** The results of both sides of each pair, as far as they have been read. */
function useOutputs(pairs: Pair[], left: RunDetail, right: RunDetail): Outputs[] {
  const asked = pairs.slice(0, MOST_OUTPUTS);
  const query = (line: Line | null, detail: RunDetail) => ({
    ...resultQuery(line?.output ?? "", detail.run.ended_at),
    enabled: line?.output != null,
  });
  const lefts = useQueries({ queries: asked.map((pair) => query(pair.left, left)) });
  const rights = useQueries({ queries: asked.map((pair) => query(pair.right, right)) });
  return pairs.map((_, index) => {
    const [a, b] = [lefts[index]?.data, rights[index]?.data];
    return { left: a, right: b, text: a && b ? [textOf(a), textOf(b)] : undefined };
  });
}

function textOf(result: Result): string | null {
  return result.error ? `${result.error.name}: ${result.error.message}` : result.data;
}

function OtherChoice({ left, right }: { left: Run; right: Run }) {
  const navigate = useNavigate();
  const query = useQuery(othersQuery(left.function));
  const runs = query.data?.runs.filter((run) => run.id !== left.id) ?? [];
  if (runs.every((run) => run.id !== right.id)) runs.unshift(right);
  return (
    <label className="row">
      with
      <select
        className="input"
        value={right.id}
        onChange={(event) =>
          void navigate({ to: "/runs/$runId/compare/$otherId", params: { runId: left.id, otherId: event.target.value } })
        }
      >
        {runs.map((run) => (
          <option key={run.id} value={run.id}>
            {run.status.toLowerCase()}, {new Date(run.queued_at).toLocaleString()}
          </option>
        ))}
      </select>
    </label>
  );
}

/** The newest runs of a function, to choose from. */
function othersQuery(slug: string) {
  return {
    queryKey: ["runs", "others", slug],
    queryFn: () => answered(client.GET("/api/runs", { params: { query: { function: [slug], limit: 30 } } })),
  };
}
