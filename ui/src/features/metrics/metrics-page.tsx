import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";

import { metricsQuery, REREAD_MS } from "@/shared/api/metrics";
import { useRereading } from "@/shared/api/rereading";
import { MetricsCharts, Totals } from "@/shared/components/metrics-charts";
import { Note, Skeleton, Trouble } from "@/shared/components/note";
import { PeriodChoice } from "@/shared/components/period-choice";
import "./metrics.css";

export function MetricsPage() {
  const search = useSearch({ from: "/metrics" });
  const navigate = useNavigate({ from: "/metrics" });
  const query = useQuery(metricsQuery(search));
  useRereading(() => void query.refetch(), REREAD_MS, (news) => news.more || news.changed.length > 0);
  const metrics = query.data;
  return (
    <div className="page">
      <header className="page-head">
        <h1>Metrics</h1>
        <PeriodChoice search={search} onChange={(period) => void navigate({ search: { period } })} />
      </header>
      <div className="page-body metrics">
        {query.isPending && <Skeleton lines={10} />}
        {query.isError && !metrics && <Trouble error={query.error} retry={() => void query.refetch()} />}
        {metrics && (
          <>
            <Totals total={metrics.total} />
            {metrics.total.queued + metrics.total.completed + metrics.total.failed === 0 && (
              <Note title="Nothing happened in this time">
                <p>Charts fill as soon as runs are queued.</p>
              </Note>
            )}
            <MetricsCharts
              metrics={metrics}
              onZoom={(since, until) => void navigate({ search: (old) => ({ ...old, since, until }) })}
            />
          </>
        )}
      </div>
    </div>
  );
}
