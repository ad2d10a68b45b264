/** An editor for JSON: coloured, folded, with what is wrong marked where it is. CodeMirror is loaded when needed. */
import { closeBrackets } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { json, jsonParseLinter } from "@codemirror/lang-json";
import { bracketMatching, foldGutter, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { linter } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { EditorView, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "react";

import "./json-editor.css";

interface Props {
  label: string;
  value: string;
  onChange: (value: string) => void;
  /** Ctrl-Enter or Cmd-Enter. */
  onSubmit?: () => void;
}

const colours = HighlightStyle.define([
  { tag: tags.propertyName, color: "var(--accent-text)" },
  { tag: tags.string, color: "var(--ok-text)" },
  { tag: tags.number, color: "var(--warn-text)" },
  { tag: [tags.bool, tags.null], color: "var(--bad-text)" },
]);

export default function JsonEditor({ label, value, onChange, onSubmit }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView>(undefined);
  const latest = useRef({ value, onChange, onSubmit });
  useEffect(() => {
    latest.current = { value, onChange, onSubmit };
  });
  useEffect(() => {
    if (box.current === null) return undefined;
    const submit = (): boolean => {
      latest.current.onSubmit?.();
      return latest.current.onSubmit !== undefined;
    };
    const made = new EditorView({
      parent: box.current,
      state: EditorState.create({
        doc: latest.current.value,
        extensions: [
          lineNumbers(),
          foldGutter(),
          history(),
          closeBrackets(),
          bracketMatching(),
          indentOnInput(),
          json(),
          linter(jsonParseLinter()),
          syntaxHighlighting(colours),
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ "aria-label": label }),
          keymap.of([{ key: "Mod-Enter", run: submit }, ...defaultKeymap, ...historyKeymap, indentWithTab]),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) latest.current.onChange(update.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = made;
    return () => made.destroy();
  }, [label]);
  useEffect(() => {
    const made = view.current;
    if (made && made.state.doc.toString() !== value) {
      made.dispatch({ changes: { from: 0, to: made.state.doc.length, insert: value } });
    }
  }, [value]);
  return <div ref={box} className="json-editor" />;
}
