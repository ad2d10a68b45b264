/** How a run, a step or an attempt stands: a colour for the eye, a word for everybody. */

export type Tone = "ok" | "bad" | "busy" | "warn" | "still";

interface Look {
  word: string;
  tone: Tone;
  hollow?: true;
  moving?: true;
}

const LOOKS: Record<string, Look> = {
  QUEUED: { word: "Queued", tone: "still", hollow: true },
  RUNNING: { word: "Running", tone: "busy", moving: true },
  WAITING: { word: "Waiting", tone: "warn", hollow: true },
  COMPLETED: { word: "Completed", tone: "ok" },
  FAILED: { word: "Failed", tone: "bad" },
  CANCELLED: { word: "Cancelled", tone: "still" },
  SKIPPED: { word: "Skipped", tone: "still", hollow: true },
};

export function lookOf(status: string): Look {
  return LOOKS[status] ?? { word: status, tone: "still" };
}

export function Status({ status }: { status: string }) {
  const look = lookOf(status);
  return (
    <span className="status" data-tone={look.tone} data-hollow={look.hollow} data-moving={look.moving}>
      {look.word}
    </span>
  );
}
