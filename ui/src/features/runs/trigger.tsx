import { CalendarClock, CornerDownRight, Layers, Zap } from "lucide-react";

import type { Run } from "@/shared/api/client";

const ICONS = { event: Zap, batch: Layers, cron: CalendarClock, invoke: CornerDownRight };

/** What started a run: an event, a batch of them, a schedule, or another run. */
export function Trigger({ run }: { run: Run }) {
  const Icon = ICONS[run.trigger];
  const count = run.event_ids.length;
  return (
    <span className="trigger" title={run.cron ?? run.event_name}>
      <Icon aria-hidden />
      <span>{run.cron ?? (run.trigger === "invoke" ? "invoked" : run.event_name)}</span>
      {run.trigger === "batch" && <span className="pill">{count} events</span>}
    </span>
  );
}
