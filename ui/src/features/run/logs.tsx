import { useQuery } from "@tanstack/react-query";

import type { Schemas } from "@/shared/api/client";
import { At } from "@/shared/components/clock";
import { Skeleton, Trouble } from "@/shared/components/note";

import { logsQuery } from "./api";

const TONES: Record<string, string> = { WARNING: "warn", ERROR: "bad", CRITICAL: "bad" };

/** What a run has logged, or one of its steps. */
export function LogView({ runId, step }: { runId: string; step: string | null }) {
  const query = useQuery(logsQuery(runId, step));
  if (query.isPending) return <Skeleton lines={4} />;
  if (query.isError) return <Trouble error={query.error} retry={() => void query.refetch()} />;
  const { lines, steps, after } = query.data;
  const dropped = steps.filter((one) => step === null || one.step_id === step).reduce((sum, one) => sum + one.dropped, 0);
  if (lines.length === 0) {
    return <p className="quiet">Nothing was logged. What functions write with Python&apos;s logging appears here.</p>;
  }
  return (
    <>
      <ol className="log" aria-label="Log">
        {lines.map((line) => (
          <LogLine key={line.n} line={line} />
        ))}
      </ol>
      {after !== null && <p className="quiet">There are more lines; a terminal shows them: perdure run {runId} --logs</p>}
      {dropped > 0 && <p className="quiet">{dropped} lines were over the limit and are not kept.</p>}
    </>
  );
}

function LogLine({ line }: { line: Schemas["LogLine"] }) {
  return (
    <li data-tone={TONES[line.level]}>
      <span className="quiet">
        <At at={line.at} />
      </span>
      <span className="log-level">{line.level.toLowerCase()}</span>
      <span className="log-text">
        {line.message}
        {line.fields !== null && <code> {JSON.stringify(line.fields)}</code>}
      </span>
    </li>
  );
}
