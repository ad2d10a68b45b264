import { useMemo } from "react";

import { pretty } from "@/shared/format/json";

import { CopyButton } from "./copy";

const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|(-?\d[\d.eE+-]*)|(true|false|null)/g;
const MAX_COLOURED = 100_000;

/** JSON text, indented and coloured, to read and to copy. */
export function Json({ text, label }: { text: string; label: string }) {
  const shown = useMemo(() => pretty(text), [text]);
  return (
    <section className="block" aria-label={label}>
      <div className="block-head">
        <span>{label}</span>
        <CopyButton text={shown} what={label} />
      </div>
      {/* It scrolls, so it must be reachable without a mouse. */}
      <pre className="json" tabIndex={0}>
        <Coloured text={shown} />
      </pre>
    </section>
  );
}

function Coloured({ text }: { text: string }) {
  const parts = useMemo(() => {
    if (text.length > MAX_COLOURED) return [text];
    const found: React.ReactNode[] = [];
    let last = 0;
    for (const match of text.matchAll(TOKEN)) {
      const [whole, quoted, colon, number] = match;
      found.push(text.slice(last, match.index));
      const kind = quoted === undefined ? (number === undefined ? "word" : "number") : colon ? "key" : "text";
      found.push(
        <span key={match.index} className={kind}>
          {quoted ?? whole}
        </span>,
      );
      if (colon) found.push(colon);
      last = match.index + whole.length;
    }
    found.push(text.slice(last));
    return found;
  }, [text]);
  return <>{parts}</>;
}
