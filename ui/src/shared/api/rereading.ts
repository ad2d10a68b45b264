import { useEffect, useRef } from "react";

import { type Update, useLive } from "./live";

/** Read something again when it was touched, at most once in `everyMs`: the first time soon, then at that pace. */
export function useRereading(read: () => void, everyMs: number, touches: (news: Update) => boolean): void {
  const due = useRef<ReturnType<typeof setTimeout>>(undefined);
  const last = useRef(0);
  const latest = useRef(read);
  useEffect(() => {
    latest.current = read;
  });
  useEffect(() => () => clearTimeout(due.current), []);
  useLive((news) => {
    if (due.current !== undefined || (news !== "resync" && !touches(news))) return;
    const wait = Math.max(Math.min(everyMs, 100), last.current + everyMs - Date.now());
    due.current = setTimeout(() => {
      due.current = undefined;
      last.current = Date.now();
      latest.current();
    }, wait);
  });
}
