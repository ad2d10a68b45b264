import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { Dialog } from "radix-ui";
import { Search } from "lucide-react";
import { useEffect, useMemo, useRef, useState } from "react";

import { functionsQuery } from "@/shared/api/functions";

import { KEYS } from "./keys";
import { PAGES } from "./pages";
import "./palette.css";

interface Choice {
  id: string;
  group: string;
  label: string;
  hint?: string;
  run: () => void;
}

const MOST = 12;
const ULID = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/i;

/** Everything that can be reached or done, by typing: Ctrl-K or Cmd-K. And `?` shows the keys. */
export function Palette() {
  const [shown, setShown] = useState<"palette" | "keys" | null>(null);
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        setShown((now) => (now === "palette" ? null : "palette"));
      } else if (event.key === "?" && !isTyping(event.target)) {
        setShown("keys");
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  const close = (): void => setShown(null);
  return (
    <>
      <button type="button" className="palette-button" onClick={() => setShown("palette")}>
        <Search aria-hidden />
        <span>Search</span>
        <kbd>{/Mac/.test(navigator.userAgent) ? "⌘K" : "Ctrl K"}</kbd>
      </button>
      <Dialog.Root open={shown !== null} onOpenChange={(open) => (open ? undefined : close())}>
        <Dialog.Portal>
          <Dialog.Overlay className="veil" />
          <Dialog.Content className="dialog palette" aria-describedby={undefined}>
            {shown === "keys" ? <Keys /> : <Choices close={close} showKeys={() => setShown("keys")} />}
          </Dialog.Content>
        </Dialog.Portal>
      </Dialog.Root>
    </>
  );
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;
}

function Choices({ close, showKeys }: { close: () => void; showKeys: () => void }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const list = useRef<HTMLUListElement>(null);
  const choices = useChoices(text, showKeys);
  const chosen = Math.min(at, choices.length - 1);
  useEffect(() => {
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  const take = (choice: Choice | undefined): void => {
    if (choice === undefined) return;
    close();
    choice.run();
  };
  return (
    <>
      <Dialog.Title className="visually-hidden">Search</Dialog.Title>
      <input
        className="palette-input"
        placeholder="A page, a function, or the id of a run or event"
        aria-label="Search"
        role="combobox"
        aria-expanded="true"
        aria-controls="palette-list"
        aria-activedescendant={choices[chosen]?.id}
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") setAt(Math.min(choices.length - 1, chosen + 1));
          else if (event.key === "ArrowUp") setAt(Math.max(0, chosen - 1));
          else if (event.key === "Enter") take(choices[chosen]);
          else return;
          event.preventDefault();
        }}
      />
      <ul id="palette-list" role="listbox" aria-label="What can be reached" ref={list}>
        {choices.map((choice, index) => (
          // The keys are with the input, as in every combobox.
          // eslint-disable-next-line jsx-a11y/click-events-have-key-events
          <li
            key={choice.id}
            id={choice.id}
            role="option"
            aria-selected={index === chosen}
            onMouseMove={() => setAt(index)}
            onClick={() => take(choice)}
          >
            <span>{choice.label}</span>
            {choice.hint && <code>{choice.hint}</code>}
            <small>{choice.group}</small>
          </li>
        ))}
        {choices.length === 0 && <li className="quiet">Nothing is called that.</li>}
      </ul>
    </>
  );
}

function useChoices(text: string, showKeys: () => void): Choice[] {
  const navigate = useNavigate();
  const functions = useQuery(functionsQuery);
  return useMemo(() => {
    const wanted = text.trim();
    const found: Choice[] = [];
    if (ULID.test(wanted)) {
      const id = wanted.toUpperCase();
      found.push(
        {
          id: "run-id",
          group: "Run",
          label: "Open the run",
          hint: id,
          run: () => void navigate({ to: "/runs/$runId", params: { runId: id }, search: {} }),
        },
        {
          id: "event-id",
          group: "Event",
          label: "Open the event",
          hint: id,
          run: () => void navigate({ to: "/events/$eventId", params: { eventId: id } }),
        },
      );
    }
    for (const { to, label } of PAGES) {
      found.push({ id: `page-${label}`, group: "Page", label, run: () => void navigate({ to, search: {} }) });
    }
    found.push({
      id: "failed",
      group: "Runs",
      label: "Failed runs",
      run: () => void navigate({ to: "/runs", search: { status: ["FAILED"] } }),
    });
    for (const one of functions.data?.functions ?? []) {
      const slug = one.id;
      found.push(
        {
          id: `function-${slug}`,
          group: "Function",
          label: one.name,
          hint: slug,
          run: () => void navigate({ to: "/functions/$slug", params: { slug } }),
        },
        {
          id: `runs-${slug}`,
          group: "Runs",
          label: `Runs of ${one.name}`,
          run: () => void navigate({ to: "/runs", search: { function: [slug] } }),
        },
      );
    }
    found.push({ id: "keys", group: "Help", label: "Keys", run: () => setTimeout(showKeys) });
    const words = wanted.toLowerCase().split(/\s+/);
    const fits = (choice: Choice): boolean => {
      const all = `${choice.group} ${choice.label} ${choice.hint ?? ""}`.toLowerCase();
      return words.every((word) => all.includes(word));
    };
    return found.filter(fits).slice(0, MOST);
  }, [text, functions.data, navigate, showKeys]);
}

function Keys() {
  return (
    <>
      <Dialog.Title asChild>
        <h2>Keys</h2>
      </Dialog.Title>
      <dl className="keys">
        {KEYS.map(([keys, what]) => (
          <div key={what}>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}
