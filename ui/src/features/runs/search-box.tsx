import { DropdownMenu } from "radix-ui";
import { CircleQuestionMark, Search } from "lucide-react";
import { useState } from "react";

import { Button } from "@/shared/components/button";

const EXAMPLES = [
  ["event.data.customer_id == 42", "a field of the event"],
  ['event.name == "order/placed"', "events of a name"],
  ['event.data.email.endsWith("@example.org")', "a part of a text"],
  ["output.amount > 1000", "a field of what the run gave"],
  ['output.message.contains("timeout")', "failures by their message"],
  ["has(event.data.coupon)", "a field that is there"],
];

interface Props {
  query: string | undefined;
  onChange: (query: string | undefined) => void;
}

/** Search payloads and outputs by an expression (CEL), or go to a run by its id. */
export function SearchBox({ query, onChange }: Props) {
  const [text, setText] = useState(query ?? "");
  const [shown, setShown] = useState(query);
  if (shown !== query) {
    // The address has changed by other means: the box shows what holds now.
    setShown(query);
    setText(query ?? "");
  }
  return (
    <form
      className="search-box"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        onChange(text.trim() || undefined);
      }}
    >
      <Search aria-hidden />
      <input
        type="search"
        className="input"
        placeholder="Payload or output, such as event.data.id == 7"
        aria-label="Search runs by an expression over event and output"
        spellCheck={false}
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          if (event.target.value === "") onChange(undefined);
        }}
      />
      <DropdownMenu.Root>
        <DropdownMenu.Trigger asChild>
          <Button look="quiet" aria-label="Examples of expressions">
            <CircleQuestionMark />
          </Button>
        </DropdownMenu.Trigger>
        <DropdownMenu.Portal>
          <DropdownMenu.Content className="menu" align="end" sideOffset={4}>
            <DropdownMenu.Label className="menu-label">Expressions over event and output (CEL)</DropdownMenu.Label>
            {EXAMPLES.map(([example, what]) => (
              <DropdownMenu.Item key={example} className="menu-item" onSelect={() => setText(example ?? "")}>
                <code>{example}</code>
                <span className="quiet">{what}</span>
              </DropdownMenu.Item>
            ))}
          </DropdownMenu.Content>
        </DropdownMenu.Portal>
      </DropdownMenu.Root>
    </form>
  );
}
