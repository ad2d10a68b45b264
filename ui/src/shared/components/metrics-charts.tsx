import { lazy, Suspense } from "react";

import type { Metrics } from "@/shared/api/metrics";
import { formatDuration } from "@/shared/format/time";

import { Skeleton } from "./note";

const Chart = lazy(() => import("./chart"));

const count = (value: number): string => (value >= 10_000 ? `${Math.round(value / 1000)}k` : `${Math.round(value * 10) / 10}`);

/** The charts of a time: how much was done, how it ended, how long it took, what waited. */
export function MetricsCharts({ metrics, onZoom }: { metrics: Metrics; onZoom?: (since: number, until: number) => void }) {
  const { at } = metrics;
  const zoom = onZoom ? { onZoom } : {};
  return (
    <Suspense fallback={<Skeleton lines={8} />}>
      <div className="charts">
        <Chart
          title="Runs by how they ended"
          at={at}
          format={count}
          {...zoom}
          series={[
            { label: "Completed", colour: "--ok", values: metrics.completed },
            { label: "Failed", colour: "--bad", values: metrics.failed },
            { label: "Cancelled", colour: "--still", values: metrics.cancelled },
          ]}
        />
        <Chart
          title="Throughput"
          at={at}
          format={count}
          {...zoom}
          series={[
            { label: "Runs queued", colour: "--accent", values: metrics.queued },
            { label: "Runs started", colour: "--busy", values: metrics.started },
            { label: "Steps", colour: "--warn", values: metrics.steps },
          ]}
        />
        <Chart title="How long runs took" at={at} format={formatDuration} {...zoom} series={lengths(metrics.took)} />
        <Chart title="From event to start" at={at} format={formatDuration} {...zoom} series={lengths(metrics.waited)} />
        <Chart title="Answers of the app" at={at} format={formatDuration} {...zoom} series={lengths(metrics.answered)} />
        <Chart
          title="Longest queue, and calls that failed"
          at={at}
          format={count}
          {...zoom}
          series={[
            { label: "Waiting calls", colour: "--still", values: metrics.depth },
            { label: "Failed calls", colour: "--bad", values: metrics.calls_failed },
          ]}
        />
      </div>
    </Suspense>
  );
}

function lengths(of: Metrics["took"]) {
  return [
    { label: "half within", colour: "--accent", values: of.p50 },
    { label: "95 % within", colour: "--warn", values: of.p95 },
    { label: "99 % within", colour: "--bad", values: of.p99 },
  ];
}

export function Totals({ total }: { total: Metrics["total"] }) {
  const ended = total.completed + total.failed + total.cancelled;
  const share = ended === 0 ? "–" : `${((100 * total.failed) / ended).toFixed(total.failed === 0 ? 0 : 1)} %`;
  const facts: [string, string][] = [
    ["Runs ended", count(ended)],
    ["Failed", share],
    ["Steps", count(total.steps)],
    ["Half took", length(total.took_p50)],
    ["95 % took", length(total.took_p95)],
    ["Waited (95 %)", length(total.waited_p95)],
  ];
  return (
    <dl className="totals">
      {facts.map(([name, value]) => (
        <div key={name} className="total">
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function length(ms: number | null): string {
  return ms === null ? "–" : formatDuration(ms);
}
