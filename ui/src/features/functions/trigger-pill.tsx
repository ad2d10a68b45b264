import { CalendarClock, Zap } from "lucide-react";

import type { Schemas } from "@/shared/api/client";

/** What starts a function: an event (perhaps only some) or a schedule. */
export function TriggerPill({ trigger }: { trigger: Schemas["Trigger"] }) {
  const Icon = trigger.cron ? CalendarClock : Zap;
  return (
    <span className="pill" title={trigger.expression ?? undefined}>
      <Icon size={12} aria-hidden />
      {trigger.cron ?? trigger.event}
      {trigger.expression && " if …"}
    </span>
  );
}
