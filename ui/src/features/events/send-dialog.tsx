import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { Tabs } from "radix-ui";
import { Send } from "lucide-react";
import { lazy, Suspense, useState } from "react";

import { answered, BASE, client } from "@/shared/api/client";
import { Button } from "@/shared/components/button";
import { CopyButton } from "@/shared/components/copy";
import { Dialog } from "@/shared/components/dialog";
import { Skeleton } from "@/shared/components/note";
import { toast, toastError } from "@/shared/components/toasts";

import { snippetsOf } from "./code";

const JsonEditor = lazy(() => import("@/shared/components/json-editor"));

interface Props {
  open: boolean;
  onClose: () => void;
  /** JSON text to begin with. */
  first: string;
}

/** Write an event and send it; or copy the code that does. An array sends several. */
export function SendDialog({ open, onClose, first }: Props) {
  return (
    <Dialog title="Send an event" open={open} onClose={onClose}>
      <Editor first={first} onClose={onClose} />
    </Dialog>
  );
}

function Editor({ first, onClose }: { first: string; onClose: () => void }) {
  const [text, setText] = useState(first);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const send = (): void => {
    let events: unknown[];
    try {
      const read: unknown = JSON.parse(text);
      events = Array.isArray(read) ? read : [read];
    } catch (error) {
      toastError(error);
      return;
    }
    void answered(client.POST("/api/events", { body: { events } })).then(({ ids }) => {
      onClose();
      const [id] = ids;
      const show = { label: "Show", run: () => void navigate({ to: "/events/$eventId", params: { eventId: id ?? "" } }) };
      toast(ids.length === 1 ? "Sent" : `${ids.length} events sent`, "ok", ids.length === 1 ? show : undefined);
      void queries.invalidateQueries({ queryKey: ["events"] });
    }, toastError);
  };
  return (
    <Tabs.Root defaultValue="edit">
      <Tabs.List className="tabs" aria-label="Ways to send">
        <Tabs.Trigger value="edit" className="tab">
          Event
        </Tabs.Trigger>
        {snippetsOf(text, location.origin + BASE).map(({ id, label }) => (
          <Tabs.Trigger key={id} value={id} className="tab">
            {label}
          </Tabs.Trigger>
        ))}
      </Tabs.List>
      <Tabs.Content value="edit" className="send-body">
        <Suspense fallback={<Skeleton lines={5} />}>
          <JsonEditor label="The event as JSON" value={text} onChange={setText} onSubmit={send} />
        </Suspense>
        <div className="dialog-foot">
          <span className="quiet">
            <kbd>Ctrl</kbd> <kbd>Enter</kbd> sends it
          </span>
          <Button look="primary" onClick={send}>
            <Send /> Send
          </Button>
        </div>
      </Tabs.Content>
      {snippetsOf(text, location.origin + BASE).map(({ id, label, text: code }) => (
        <Tabs.Content key={id} value={id} className="block">
          <div className="block-head">
            <span />
            <CopyButton text={code} what={`the ${label} code`} />
          </div>
          <pre className="json">{code}</pre>
        </Tabs.Content>
      ))}
    </Tabs.Root>
  );
}
