import { useNavigate } from "@tanstack/react-router";
import { useEffect } from "react";

import { PAGES } from "./pages";

const PATIENCE_MS = 900;

/** `g` and then a letter goes to a page. */
export function useGoingKeys(): void {
  const navigate = useNavigate();
  useEffect(() => {
    let pressedAt = 0;
    const press = (event: KeyboardEvent): void => {
      const target = event.target as Element;
      if (event.metaKey || event.ctrlKey || event.altKey) return;
      if (target.closest("input, textarea, select, [role=menu], [role=dialog], [contenteditable]")) return;
      if (event.key === "g") {
        pressedAt = event.timeStamp;
        return;
      }
      const page = PAGES.find((one) => one.key === event.key);
      if (page && pressedAt > 0 && event.timeStamp - pressedAt < PATIENCE_MS) void navigate({ to: page.to, search: {} });
      pressedAt = 0;
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [navigate]);
}
