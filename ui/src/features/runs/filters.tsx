import { useQuery } from "@tanstack/react-query";
import { DropdownMenu } from "radix-ui";
import { ChevronDown, X } from "lucide-react";

import { functionsQuery } from "@/shared/api/functions";
import { Button } from "@/shared/components/button";
import { useNow, useZone } from "@/shared/components/clock";
import { lookOf } from "@/shared/components/status";
import { formatClock } from "@/shared/format/time";

import { readRunsSearch, type RunsSearch, SPANS, type Span, STATUSES } from "./search";

interface Props {
  search: RunsSearch;
  onChange: (search: RunsSearch) => void;
}

/** What narrows the list; all of it stands in the address. */
export function Filters({ search, onChange }: Props) {
  const functions = useQuery(functionsQuery);
  const slugs = functions.data?.functions.map((one) => ({ value: one.id, label: one.name })) ?? [];
  const apps = [...new Set(functions.data?.functions.map((one) => one.app))].sort();
  return (
    <div className="filters">
      <Choice
        label="Status"
        options={STATUSES.map((status) => ({ value: status, label: lookOf(status).word }))}
        chosen={search.status ?? []}
        onChange={(status) => onChange(changed(search, "status", status))}
      />
      <Choice
        label="Function"
        options={slugs}
        chosen={search.function ?? []}
        onChange={(value) => onChange(changed(search, "function", value))}
      />
      {(apps.length > 1 || search.app) && (
        <Choice
          label="App"
          options={apps.map((app) => ({ value: app, label: app }))}
          chosen={search.app ?? []}
          onChange={(value) => onChange(changed(search, "app", value))}
        />
      )}
      <SpanChoice
        search={search}
        onChange={(span) => onChange(readRunsSearch({ ...search, since: undefined, until: undefined, span }))}
      />
      {Object.keys(search).length > 0 && (
        <Button look="quiet" onClick={() => onChange({})}>
          <X /> Clear
        </Button>
      )}
    </div>
  );
}

function changed(search: RunsSearch, key: keyof RunsSearch, value: string | string[] | undefined): RunsSearch {
  const empty = value === undefined || value.length === 0;
  // What is empty is left out, so that the address stays short; reading it back checks the rest.
  return readRunsSearch({ ...search, [key]: empty ? undefined : value });
}

function Choice({
  label,
  options,
  chosen,
  onChange,
}: {
  label: string;
  options: { value: string; label: string }[];
  chosen: string[];
  onChange: (chosen: string[]) => void;
}) {
  const names = options.filter((one) => chosen.includes(one.value)).map((one) => one.label);
  const shown = names.length > 2 ? `${names.length} chosen` : names.join(", ");
  return (
    <DropdownMenu.Root>
      <DropdownMenu.Trigger asChild>
        <Button data-on={chosen.length > 0 || undefined}>
          {label}
          {shown && <strong>{shown}</strong>}
          <ChevronDown />
        </Button>
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content className="menu" align="start" sideOffset={4}>
          {options.length === 0 && <DropdownMenu.Label className="menu-label">None yet</DropdownMenu.Label>}
          {options.map(({ value, label: word }) => (
            <DropdownMenu.CheckboxItem
              key={value}
              className="menu-item"
              checked={chosen.includes(value)}
              onSelect={(event) => event.preventDefault()}
              onCheckedChange={(on) => onChange(on ? [...chosen, value] : chosen.filter((one) => one !== value))}
            >
              {word}
            </DropdownMenu.CheckboxItem>
          ))}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

function SpanChoice({ search, onChange }: { search: RunsSearch; onChange: (span: Span | undefined) => void }) {
  const { zone } = useZone();
  const { span, since, until } = search;
  const now = useNow();
  const exact = since !== undefined || until !== undefined;
  const edge = (at: number | undefined): string => (at === undefined ? "now" : formatClock(at, now, zone));
  const words = exact ? `${edge(since)} – ${edge(until)}` : span === undefined ? null : SPANS[span].label;
  return (
    <DropdownMenu.Root>
      <DropdownMenu.Trigger asChild>
        <Button data-on={words !== null || undefined}>
          {words === null ? "All time" : <strong>{words}</strong>}
          <ChevronDown />
        </Button>
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content className="menu" align="start" sideOffset={4}>
          <DropdownMenu.RadioGroup
            value={span ?? ""}
            onValueChange={(value) => onChange(value === "" ? undefined : (value as Span))}
          >
            <DropdownMenu.RadioItem className="menu-item" value="">
              All time
            </DropdownMenu.RadioItem>
            {Object.entries(SPANS).map(([value, { label }]) => (
              <DropdownMenu.RadioItem className="menu-item" key={value} value={value}>
                {label}
              </DropdownMenu.RadioItem>
            ))}
          </DropdownMenu.RadioGroup>
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}
