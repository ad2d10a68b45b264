import { DropdownMenu } from "radix-ui";
import { ChevronDown } from "lucide-react";

import { type MetricsSearch, type Period, PERIODS } from "@/shared/api/metrics";

import { Button } from "./button";

/** Over which time charts go. A time that was chosen in a chart is given up by choosing another here. */
export function PeriodChoice({ search, onChange }: { search: MetricsSearch; onChange: (period: Period) => void }) {
  const chosen = search.since === undefined ? (search.period ?? "24h") : undefined;
  return (
    <DropdownMenu.Root>
      <DropdownMenu.Trigger asChild>
        <Button>
          {chosen ? PERIODS[chosen].label : "Chosen in a chart"}
          <ChevronDown />
        </Button>
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content className="menu" align="start" sideOffset={4}>
          <DropdownMenu.RadioGroup value={chosen ?? ""} onValueChange={(value) => onChange(value as Period)}>
            {Object.entries(PERIODS).map(([value, { label }]) => (
              <DropdownMenu.RadioItem key={value} value={value} className="menu-item">
                {label}
              </DropdownMenu.RadioItem>
            ))}
          </DropdownMenu.RadioGroup>
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}
