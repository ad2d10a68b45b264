import { useNavigate } from "@tanstack/react-router";
import { Play } from "lucide-react";
import { lazy, Suspense, useState } from "react";

import { answered, client, type FunctionHead } from "@/shared/api/client";
import { Button } from "@/shared/components/button";
import { Dialog } from "@/shared/components/dialog";
import { Skeleton } from "@/shared/components/note";
import { toast, toastError } from "@/shared/components/toasts";

const JsonEditor = lazy(() => import("@/shared/components/json-editor"));

/** Start a run of a function, whatever its triggers, with data of one's own. */
export function StartButton({ head, example }: { head: FunctionHead; example: string }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <Button look="primary" onClick={() => setOpen(true)}>
        <Play /> Run
      </Button>
      <Dialog title={`Run ${head.name}`} open={open} onClose={() => setOpen(false)}>
        <Editor head={head} example={example} onClose={() => setOpen(false)} />
      </Dialog>
    </>
  );
}

function Editor({ head, example, onClose }: { head: FunctionHead; example: string; onClose: () => void }) {
  const [text, setText] = useState(example);
  const navigate = useNavigate();
  const start = (): void => {
    let data: unknown;
    try {
      data = JSON.parse(text);
    } catch (error) {
      toastError(error);
      return;
    }
    const request = client.POST("/api/functions/{slug}/start", { params: { path: { slug: head.id } }, body: { data } });
    void answered(request).then(({ event_id: eventId }) => {
      onClose();
      toast("Started", "ok", {
        label: "Show",
        run: () => void navigate({ to: "/events/$eventId", params: { eventId } }),
      });
    }, toastError);
  };
  return (
    <>
      <p className="quiet">The data of the event that the function gets:</p>
      <Suspense fallback={<Skeleton lines={5} />}>
        <JsonEditor label="Data of the event as JSON" value={text} onChange={setText} onSubmit={start} />
      </Suspense>
      <div className="dialog-foot">
        <span className="quiet">
          <kbd>Ctrl</kbd> <kbd>Enter</kbd> runs it
        </span>
        <Button look="primary" onClick={start}>
          <Play /> Run
        </Button>
      </div>
    </>
  );
}
